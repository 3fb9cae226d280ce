#include "client/lib/effect.h"

#include <cstdint>
#include <random>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Requests whose fields do not matter. Whatever is not here happens once.
constexpr absl::string_view kIdempotent[] = {
    "grpc.health.v1.HealthCheckRequest",
    "tdp.v1.GetInfoRequest",
    "tdp.v1.GetVmRequest",
    "tdp.v1.ListVmsRequest",
    "tdp.v1.GetVcpuRequest",
    "tdp.v1.ListVcpusRequest",
    "tdp.v1.WaitVcpuRequest",
    "tdp.v1.GetMemslotRequest",
    "tdp.v1.ListMemslotsRequest",
    "tdp.v1.ListDirtyConsumersRequest",
    "tdp.v1.ListWaitingAccessesRequest",
    "tdp.v1.GetVmStatsRequest",
    "tdp.v1.EstimateWorkingSetRequest",
    "tdp.v1.WalkGfnRequest",
    "tdp.v1.WalkFramesRequest",
    "tdp.v1.AuditRangeRequest",
    "tdp.v1.MapRangeRequest",
    "tdp.v1.ZapRangeRequest",
    "tdp.v1.ZapAllRequest",
    "tdp.v1.ProtectRangeRequest",
    "tdp.v1.WriteProtectRangeRequest",
    "tdp.v1.SplitHugePagesRequest",
    "tdp.v1.CollapseHugePagesRequest",
    "tdp.v1.ApplyBatchRequest",
};

const FieldDescriptor* FieldOf(const Message& message, const char* name) {
  return message.GetDescriptor()->FindFieldByName(name);
}

bool HasRequestId(const Message& message) {
  const FieldDescriptor* field = FieldOf(message, "request_id");
  return field != nullptr &&
         !message.GetReflection()->GetString(message, field).empty();
}

bool IsSet(const Message& message, const char* name) {
  const FieldDescriptor* field = FieldOf(message, name);
  return field != nullptr && message.GetReflection()->GetBool(message, field);
}

}  // namespace

Effect EffectOf(const Message& request) {
  if (HasRequestId(request) || IsSet(request, "validate_only")) {
    return Effect::kIdempotent;
  }
  // DiscardRange is not here either: what the guest wrote after the first call
  // would be gone.
  // Aging tells what was young only once.
  if (request.GetDescriptor() == v1::AgeRangeRequest::descriptor()) {
    return IsSet(request, "test_only") ? Effect::kIdempotent : Effect::kOnce;
  }
  for (const absl::string_view name : kIdempotent) {
    if (request.GetDescriptor()->full_name() == name) {
      return Effect::kIdempotent;
    }
  }
  return Effect::kOnce;
}

std::string NewRequestId() {
  std::random_device random;
  const auto word = [&random] { return static_cast<uint32_t>(random()); };
  const uint32_t a = word();
  const uint32_t b = word();
  const uint32_t c = word();
  const uint32_t d = word();
  return absl::StrFormat("%08x-%04x-4%03x-%04x-%04x%08x", a, b >> 16, b & 0xfff,
                         0x8000 | (c >> 16 & 0x3fff), c & 0xffff, d);
}

}  // namespace tdp::client
