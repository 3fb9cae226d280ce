#include "server/web/json.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "server/convert/status.h"
#include "server/convert/text.h"
#include "tdp/v1/error.pb.h"

namespace tdp::server {

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) {
    return InternalError(absl::StrCat(message.GetDescriptor()->full_name(),
                                      " cannot be written as JSON"));
  }
  return json;
}

absl::Status FromJson(absl::string_view json,
                      google::protobuf::Message* message) {
  if (json.empty()) return absl::OkStatus();
  const auto status = google::protobuf::util::JsonStringToMessage(
      {json.data(), json.size()}, message);
  if (status.ok()) return absl::OkStatus();
  return FieldError(
      "request", Shown(json),
      absl::StrCat(message->GetDescriptor()->full_name(), " as JSON"));
}

std::string ErrorJson(const absl::Status& status) {
  const v1::RpcStatus rpc = ToRpcStatus(status);
  v1::ErrorInfo info;
  info.ParseFromString(rpc.details(0).value());
  google::protobuf::Struct body;
  google::protobuf::Struct& error =
      *(*body.mutable_fields())["error"].mutable_struct_value();
  auto& fields = *error.mutable_fields();
  fields["code"].set_string_value(
      absl::StatusCodeToString(static_cast<absl::StatusCode>(rpc.code())));
  fields["reason"].set_string_value(info.reason());
  fields["message"].set_string_value(rpc.message());
  auto& metadata = *fields["metadata"].mutable_struct_value()->mutable_fields();
  for (const auto& [key, value] : info.metadata()) {
    metadata[key].set_string_value(value);
  }
  const absl::StatusOr<std::string> json = ToJson(body);
  return json.ok() ? *json : "{}";
}

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

}  // namespace tdp::server
