#include "server/convert/status.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

constexpr char kDomain[] = "tdp.v1";
constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

// The message travels twice, once percent-encoded, the details base64-encoded.
constexpr size_t kMaxMessageBytes = 800;
constexpr size_t kMaxMetadataEntries = 12;
constexpr size_t kMaxMetadataBytes = 160;

// When to come back, where waiting alone can help.
std::optional<absl::Duration> RetryDelayOf(const ErrorDetail& detail) {
  switch (detail.reason) {
    case ErrorReason::kDraining:
    case ErrorReason::kSourceFailed:
    case ErrorReason::kHostMemoryExhausted:
      return absl::Seconds(1);
    case ErrorReason::kOperationConflict:
      return absl::Milliseconds(100);
    case ErrorReason::kLimitReached:
      for (const auto& [key, value] : detail.metadata) {
        int64_t delay_ms = 0;
        if (key == "retryDelayMs" && absl::SimpleAtoi(value, &delay_ms)) {
          return absl::Milliseconds(delay_ms);
        }
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

absl::Status WithDetail(const absl::Status& status) {
  if (DetailOf(status).has_value()) return status;
  return InternalError(absl::StrCat("unexpected error: ", status.ToString()),
                       {{"code", absl::StatusCodeToString(status.code())}});
}

}  // namespace

v1::RpcStatus ToRpcStatus(const absl::Status& status) {
  v1::RpcStatus result;
  if (status.ok()) return result;
  const absl::Status known = WithDetail(status);
  const ErrorDetail detail = *DetailOf(known);
  result.set_code(static_cast<int>(known.code()));
  result.set_message(Clipped({known.message().data(), known.message().size()},
                             kMaxMessageBytes));

  v1::ErrorInfo info;
  info.set_reason(std::string(NameOf(detail.reason)));
  info.set_domain(kDomain);
  size_t entries = 0;
  for (const auto& [key, value] : detail.metadata) {
    if (++entries > kMaxMetadataEntries) break;
    (*info.mutable_metadata())[Clipped(key, kMaxMetadataBytes)] =
        Clipped(value, kMaxMetadataBytes);
  }
  google::protobuf::Any* packed = result.add_details();
  packed->set_type_url(kErrorInfoUrl);
  packed->set_value(info.SerializeAsString());

  if (const auto delay = RetryDelayOf(detail); delay.has_value()) {
    v1::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(*delay));
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(
        absl::ToInt64Nanoseconds(*delay % absl::Seconds(1))));
    packed = result.add_details();
    packed->set_type_url(kRetryInfoUrl);
    packed->set_value(retry.SerializeAsString());
  }
  return result;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const v1::RpcStatus details = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(details.code()),
                      details.message(), details.SerializeAsString());
}

}  // namespace tdp::server
