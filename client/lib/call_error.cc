#include "client/lib/call_error.h"

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/lib/json.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

using google::protobuf::Struct;

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

// How the text begins of a call that was cut off: gRPC carries no details then.
constexpr absl::string_view kCutOff = "STREAM_TOO_SLOW:";

template <typename Message>
std::optional<Message> PayloadOf(const absl::Status& status, const char* url) {
  const auto payload = status.GetPayload(url);
  Message message;
  if (!payload || !message.ParseFromString(std::string(*payload))) return {};
  return message;
}

void SetString(Struct& fields, const char* key, absl::string_view value) {
  (*fields.mutable_fields())[key].set_string_value(std::string(value));
}

}  // namespace

absl::Status MakeCallError(int code, absl::string_view message,
                           absl::string_view details_bin) {
  absl::Status status(static_cast<absl::StatusCode>(code), message);
  if (absl::IsResourceExhausted(status) && details_bin.empty() &&
      absl::StartsWith(message, kCutOff)) {
    v1::ErrorInfo info;
    info.set_reason("STREAM_TOO_SLOW");
    info.set_domain("tdp.v1");
    status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
  }
  v1::RpcStatus details;
  if (!details.ParseFromString(std::string(details_bin))) return status;
  for (const google::protobuf::Any& detail : details.details()) {
    status.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return status;
}

std::optional<v1::ErrorInfo> ErrorInfoOf(const absl::Status& status) {
  return PayloadOf<v1::ErrorInfo>(status, kErrorInfoUrl);
}

std::optional<absl::Duration> RetryDelayOf(const absl::Status& status) {
  const auto retry = PayloadOf<v1::RetryInfo>(status, kRetryInfoUrl);
  if (!retry) return {};
  return absl::Seconds(retry->retry_delay().seconds()) +
         absl::Nanoseconds(retry->retry_delay().nanos());
}

absl::Status WithSuffix(const absl::Status& status, absl::string_view suffix) {
  absl::Status result(status.code(), absl::StrCat(status.message(), suffix));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    result.SetPayload(url, payload);
  });
  return result;
}

std::string ErrorText(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ",
                      status.message());
}

std::string ErrorJson(const absl::Status& status) {
  Struct document;
  Struct& error = *(*document.mutable_fields())["error"].mutable_struct_value();
  SetString(error, "code", absl::StatusCodeToString(status.code()));
  SetString(error, "message", status.message());
  if (const auto info = ErrorInfoOf(status)) {
    SetString(error, "reason", info->reason());
    SetString(error, "domain", info->domain());
    Struct& metadata =
        *(*error.mutable_fields())["metadata"].mutable_struct_value();
    for (const auto& [key, value] : info->metadata()) {
      SetString(metadata, key.c_str(), value);
    }
  }
  if (const auto retry = PayloadOf<v1::RetryInfo>(status, kRetryInfoUrl)) {
    SetString(error, "retryDelay",
              google::protobuf::util::TimeUtil::ToString(retry->retry_delay()));
  }
  return ToJson(document);
}

}  // namespace tdp::client
