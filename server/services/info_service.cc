#include "server/services/info_service.h"

#include <cstdint>
#include <utility>

#include "engine/base/limits.h"
#include "server/base/version.h"
#include "server/guard/guard_limits.h"
#include "server/rpc/read_limits.h"

namespace tdp::server {
namespace {

// Limits that the engine does not report.
constexpr std::pair<const char*, int64_t> kServerLimits[] = {
    {"default_page_size", limits::kDefaultPageSize},
    {"max_certificate_names", limits::kMaxCertificateNames},
    {"max_policy_bytes", limits::kMaxPolicyBytes},
    {"max_policy_lines", limits::kMaxPolicyLines},
    {"max_policy_patterns", limits::kMaxPolicyPatterns},
    {"max_queued_calls", limits::kMaxQueuedCalls},
    {"max_queued_calls_per_client", limits::kMaxQueuedCallsPerClient},
    {"max_stats_interval_ms", limits::kMaxStatsIntervalMs},
    {"max_stream_operations", limits::kMaxStreamOperations},
    {"max_streams_per_connection", limits::kMaxStreamsPerConnection},
    {"max_unread_seconds", limits::kMaxUnreadSeconds},
    {"min_read_bytes_per_second", kMinReadBytesPerSecond},
    {"min_stats_interval_ms", limits::kMinStatsIntervalMs},
    {"max_metadata_bytes", limits::kMaxMetadataBytes},
    {"handshake_timeout_ms", limits::kHandshakeTimeoutMs},
    {"keepalive_time_ms", limits::kKeepaliveTimeMs},
    {"keepalive_timeout_ms", limits::kKeepaliveTimeoutMs},
};

}  // namespace

absl::Status InfoHandler::GetInfo(CallContext&, const v1::GetInfoRequest&,
                                  v1::GetInfoResponse* response) {
  response->set_version(kVersion);
  response->add_api_versions("tdp.v1");
  for (const HostCapability& capability : registry_.capabilities()) {
    v1::Capability* out = response->add_capabilities();
    out->set_name(capability.name);
    out->set_available(capability.available);
    out->set_hint(capability.hint);
  }
  auto& limits = *response->mutable_limits();
  for (const auto& [name, value] : kServerLimits) limits[name] = value;
  for (const auto& [name, value] : limits_) limits[name] = value;
  for (const auto& [name, value] : guard_limits::kAll) limits[name] = value;
  for (const auto& [name, value] : registry_.limits()) limits[name] = value;
  return absl::OkStatus();
}

}  // namespace tdp::server
