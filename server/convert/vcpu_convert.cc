#include "server/convert/vcpu_convert.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"
#include "server/convert/event_convert.h"
#include "server/convert/image_path.h"
#include "server/convert/resource_names.h"

namespace tdp::server {
namespace {

absl::StatusOr<GuestConfig> TouchGuestFrom(const v1::TouchGuest& guest) {
  TouchGuestConfig config;
  TDP_ASSIGN_OR_RETURN(
      config.range,
      RangeFrom("guest.touch.range", guest.has_range(), guest.range()));
  if (!v1::TouchGuest::Pattern_IsValid(guest.pattern())) {
    return EnumError("guest.touch.pattern", guest.pattern(), "",
                     "a value of TouchGuest.Pattern, PATTERN_SEQUENTIAL to "
                     "PATTERN_HOT_TENTH");
  }
  if (guest.pattern() != v1::TouchGuest::PATTERN_UNSPECIFIED) {
    config.pattern = static_cast<TouchPattern>(guest.pattern());
  }
  config.write = guest.write();
  if (guest.pass_count() < -1) {
    return FieldError("guest.touch.pass_count",
                      absl::StrCat(guest.pass_count()),
                      "-1 for endless, 0 for one pass, or a number of passes");
  }
  config.pass_count = guest.pass_count();
  config.seed = guest.seed();
  return GuestConfig(config);
}

absl::StatusOr<GuestConfig> CodeGuestFrom(const v1::CodeGuest& guest) {
  CodeGuestConfig config;
  if (guest.code().empty() ||
      guest.code().size() > static_cast<size_t>(limits::kMaxCodeBytes)) {
    return FieldError("guest.code.code",
                      absl::StrCat(guest.code().size(), " bytes"),
                      absl::StrCat("1 to ", limits::kMaxCodeBytes, " bytes"));
  }
  config.code = guest.code();
  config.entry_gpa = Gpa(guest.entry_gpa());
  if (!v1::CodeGuest::Mode_IsValid(guest.mode())) {
    return EnumError("guest.code.mode", guest.mode(), "",
                     "MODE_REAL, MODE_LONG or unspecified");
  }
  if (guest.mode() != v1::CodeGuest::MODE_UNSPECIFIED) {
    config.mode = static_cast<CodeMode>(guest.mode());
  }
  return GuestConfig(config);
}

}  // namespace

absl::StatusOr<GuestConfig> GuestFrom(const v1::Guest& guest) {
  switch (guest.guest_case()) {
    case v1::Guest::kTouch:
      return TouchGuestFrom(guest.touch());
    case v1::Guest::kCode:
      return CodeGuestFrom(guest.code());
    case v1::Guest::kElf:
      TDP_RETURN_IF_ERROR(CheckImagePath("guest.elf.path", guest.elf().path()));
      return GuestConfig(ElfGuestConfig{guest.elf().path()});
    case v1::Guest::GUEST_NOT_SET:
      break;
  }
  return FieldError("guest", "", "one of touch, code and elf");
}

void ToProto(absl::string_view vm, const VcpuInfo& info, v1::Vcpu* out) {
  out->set_name(MakeVcpuName(vm, info.index));
  out->set_state(static_cast<v1::Vcpu::State>(info.state));
  out->set_exit_reason(info.exit_reason);
  out->set_instruction_pointer(info.instruction_pointer);
  out->set_console(info.console);
  out->set_touched_frame_count(info.touched_frame_count);
  if (info.waiting_access.has_value()) {
    ToProto(*info.waiting_access, out->mutable_waiting_access());
  }
}

}  // namespace tdp::server
