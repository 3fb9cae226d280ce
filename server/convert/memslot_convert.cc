#include "server/convert/memslot_convert.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"
#include "server/convert/image_path.h"
#include "server/convert/resource_names.h"
#include "server/convert/update_mask.h"

namespace tdp::server {
namespace {

absl::StatusOr<FaultPolicy> FaultPolicyFrom(v1::FaultPolicy policy) {
  if (!v1::FaultPolicy_IsValid(policy)) {
    return EnumError("memslot.fault_policy", policy, "",
                     "FAULT_POLICY_MAP, FAULT_POLICY_WAIT or unspecified");
  }
  return static_cast<FaultPolicy>(policy);
}

absl::StatusOr<int> MapAroundFrom(int32_t frame_count) {
  if (frame_count < 0) {
    return FieldError("memslot.map_around_frame_count",
                      absl::StrCat(frame_count), "0 or more");
  }
  return frame_count;
}

absl::StatusOr<FileSourceConfig> SourceFrom(const v1::FileSource& source) {
  FileSourceConfig config;
  TDP_RETURN_IF_ERROR(CheckImagePath("memslot.source.path", source.path()));
  config.path = source.path();
  if (source.offset_bytes() < 0 ||
      source.offset_bytes() % static_cast<int64_t>(kPageSize) != 0) {
    return FieldError("memslot.source.offset_bytes",
                      absl::StrCat(source.offset_bytes()),
                      "a multiple of 4096, and not negative");
  }
  config.offset_bytes = source.offset_bytes();
  return config;
}

}  // namespace

absl::StatusOr<MemslotConfig> MemslotConfigFrom(const v1::Memslot& memslot) {
  MemslotConfig config;
  config.base_gfn = Gfn(memslot.base_gfn());
  if (memslot.frame_count() < 1 ||
      memslot.frame_count() > limits::kMaxMemslotFrames) {
    return FieldError("memslot.frame_count",
                      absl::StrCat(memslot.frame_count()),
                      absl::StrCat("1 to ", limits::kMaxMemslotFrames));
  }
  config.frame_count = memslot.frame_count();
  config.read_only = memslot.read_only();
  config.dirty_log_enabled = memslot.dirty_log_enabled();
  TDP_ASSIGN_OR_RETURN(
      config.host_page_level,
      SmallLevelFrom("memslot.host_page_level", memslot.host_page_level()));
  if (memslot.has_source()) {
    TDP_ASSIGN_OR_RETURN(config.source, SourceFrom(memslot.source()));
  }
  TDP_ASSIGN_OR_RETURN(config.fault_policy,
                       FaultPolicyFrom(memslot.fault_policy()));
  if (!v1::DirtyMode_IsValid(memslot.dirty_mode())) {
    return EnumError("memslot.dirty_mode", memslot.dirty_mode(), "",
                     "DIRTY_MODE_WRITE_PROTECT, DIRTY_MODE_HARVEST or "
                     "unspecified");
  }
  config.dirty_mode = static_cast<DirtyMode>(memslot.dirty_mode());
  TDP_ASSIGN_OR_RETURN(config.map_around_frame_count,
                       MapAroundFrom(memslot.map_around_frame_count()));
  config.dirty_log_initially_set = memslot.dirty_log_initially_set();
  return config;
}

absl::StatusOr<MemslotUpdate> MemslotUpdateFrom(
    const v1::Memslot& memslot, const google::protobuf::FieldMask& mask) {
  TDP_ASSIGN_OR_RETURN(
      const std::set<std::string> fields,
      ParseUpdateMask(
          mask, *v1::Memslot::descriptor(),
          {"base_gfn", "read_only", "dirty_log_enabled", "fault_policy",
           "map_around_frame_count", "dirty_log_initially_set"}));
  MemslotUpdate update;
  if (fields.contains("base_gfn")) update.base_gfn = Gfn(memslot.base_gfn());
  if (fields.contains("read_only")) update.read_only = memslot.read_only();
  if (fields.contains("dirty_log_enabled")) {
    update.dirty_log_enabled = memslot.dirty_log_enabled();
  }
  if (fields.contains("fault_policy")) {
    TDP_ASSIGN_OR_RETURN(update.fault_policy,
                         FaultPolicyFrom(memslot.fault_policy()));
  }
  if (fields.contains("map_around_frame_count")) {
    TDP_ASSIGN_OR_RETURN(update.map_around_frame_count,
                         MapAroundFrom(memslot.map_around_frame_count()));
  }
  if (fields.contains("dirty_log_initially_set")) {
    update.dirty_log_initially_set = memslot.dirty_log_initially_set();
  }
  return update;
}

void ToProto(absl::string_view vm, const MemslotInfo& info, v1::Memslot* out) {
  const MemslotConfig& config = info.config;
  out->set_name(MakeMemslotName(vm, info.id));
  out->set_base_gfn(config.base_gfn.value());
  out->set_frame_count(config.frame_count);
  out->set_read_only(config.read_only);
  out->set_dirty_log_enabled(config.dirty_log_enabled);
  out->set_host_page_level(static_cast<v1::PageLevel>(config.host_page_level));
  if (config.source.has_value()) {
    out->mutable_source()->set_path(config.source->path);
    out->mutable_source()->set_offset_bytes(config.source->offset_bytes);
  }
  out->set_etag(info.etag);
  out->set_fault_policy(static_cast<v1::FaultPolicy>(config.fault_policy));
  out->set_dirty_mode(static_cast<v1::DirtyMode>(config.dirty_mode));
  out->set_map_around_frame_count(config.map_around_frame_count);
  out->set_dirty_log_initially_set(config.dirty_log_initially_set);
}

}  // namespace tdp::server
