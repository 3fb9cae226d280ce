#include "server/observe/call_log.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "grpcpp/server_context.h"
#include "server/observe/code_names.h"
#include "server/observe/metric_family.h"
#include "server/rpc/call_context.h"

namespace tdp::server {
namespace {

constexpr size_t kMaxFields = 9;

Severity SeverityOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDataLoss:
      return Severity::kError;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return Severity::kWarning;
    default:
      return Severity::kInfo;
  }
}

bool IsEndOfStream(const CallContext& context, const absl::Status& status) {
  return status.ok() ||
         (context.method().is_stream && absl::IsCancelled(status));
}

// Which limit was reached; empty for an error that is about none.
absl::string_view LimitOf(const ErrorDetail& detail) {
  for (const auto& [key, value] : detail.metadata) {
    if (key == "limit") return value;
  }
  return {};
}

// Each thread counts by itself: on the whole it is one in so many.
bool IsSampled() {
  thread_local uint32_t t_successes = 0;
  return ++t_successes % CallLog::kSuccessesPerLine == 0;
}

}  // namespace

struct CallLog::Line {
  Severity severity;
  absl::string_view message;
  absl::Duration duration;
  std::string request_id;
  int64_t left_out = 0;
};

CallLog::CallLog() : CallLog(Options()) {}

CallLog::CallLog(Options options) : options_(std::move(options)) {}

void CallLog::Completing(grpc::ServerContext& transport,
                         const CallContext& context,
                         const absl::Status& status) {
  const absl::Time now = options_.now();
  // Somebody may set the clock back while the call is under way.
  Line line{.duration =
                std::max(now - context.start_time(), absl::ZeroDuration())};
  if (!IsEndOfStream(context, status)) {
    line.severity = SeverityOf(status.code());
    line.message = "call failed";
  } else if (line.duration > kSlow && !context.method().is_stream) {
    line.severity = Severity::kInfo;
    line.message = "slow call";
  } else if (IsSampled()) {
    line.severity = Severity::kInfo;
    line.message = "call";
  } else if (IsLogged(Severity::kDebug)) [[unlikely]] {
    line.severity = Severity::kDebug;
    line.message = "call";
  } else {
    return;
  }

  if (!status.ok()) {
    line.request_id = RequestIdOf(transport);
    transport.AddTrailingMetadata(kRequestIdKey, line.request_id);
  }
  if (!IsLogged(line.severity)) return;
  // Whoever asks for debug lines asks for all of them.
  if (line.severity != Severity::kDebug) {
    const uint64_t peer = context.peer() == nullptr ? 0 : context.peer()->id;
    const LineLimiter::Answer answer =
        limiter_.Ask(peer, options_.monotonic_now());
    if (!answer.admitted) return;
    line.left_out = answer.left_out;
  }
  if (line.request_id.empty()) line.request_id = RequestIdOf(transport);
  Write(line, context, status);
}

std::string CallLog::RequestIdOf(const grpc::ServerContext& transport) {
  const auto& metadata = transport.client_metadata();
  const auto it = metadata.find(kRequestIdKey);
  if (it != metadata.end()) {
    const absl::string_view id(it->second.data(), it->second.size());
    if (IsCleanRequestId(id)) return std::string(id);
  }
  return request_ids_.Next();
}

void CallLog::Write(const Line& line, const CallContext& context,
                    const absl::Status& status) {
  const absl::string_view peer =
      context.peer() == nullptr ? absl::string_view("unknown")
                                : absl::string_view(context.peer()->identity);
  if (line.left_out > 0) {
    const std::string count = absl::StrCat(line.left_out);
    options_.write(Severity::kWarning, "lines of this peer were left out",
                   {{{"peer", peer}, {"count", count}}});
  }
  const std::string duration =
      absl::StrCat(absl::ToInt64Microseconds(line.duration));
  const std::optional<ErrorDetail> detail =
      status.ok() ? std::nullopt : DetailOf(status);

  std::array<LogField, kMaxFields> fields;
  size_t count = 0;
  fields[count++] = {"method", context.method().name};
  fields[count++] = {"code", CodeName(status.code())};
  if (detail.has_value()) {
    fields[count++] = {"reason", NameOf(detail->reason)};
    const absl::string_view limit = LimitOf(*detail);
    if (!limit.empty()) fields[count++] = {"limit", limit};
  }
  fields[count++] = {"duration_us", duration};
  fields[count++] = {"peer", peer};
  fields[count++] = {"request_id", line.request_id};
  // What went wrong in here, the caller cannot tell us. Other messages quote
  // the caller.
  if (absl::IsInternal(status)) fields[count++] = {"error", status.message()};
  options_.write(line.severity, line.message,
                 absl::MakeConstSpan(fields.data(), count));
}

void CallLog::Collect(std::vector<prometheus::MetricFamily>& families) const {
  FamilyBuilder::Counter("tdpd_log_lines_left_out_total",
                         "Lines about calls that were not logged because their "
                         "peer caused too many.")
      .Add({}, static_cast<double>(limiter_.left_out_count()))
      .MoveTo(families);
  FamilyBuilder::Counter("tdpd_log_lines_dropped_total",
                         "Lines that were lost because stderr took them too "
                         "slowly.")
      .Add({}, static_cast<double>(DroppedLogLineCount()))
      .MoveTo(families);
}

}  // namespace tdp::server
