// Messages and errors as JSON, proto3's way: lowerCamelCase names, 64-bit
// integers as strings, fields that have their default printed, too.
//
// Thread safety: free functions on values.

#ifndef SERVER_WEB_JSON_H_
#define SERVER_WEB_JSON_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace tdp::server {

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message);
// FIELD_INVALID for text that is no such message; no text at all is an empty
// one.
absl::Status FromJson(absl::string_view json,
                      google::protobuf::Message* message);

// {"error":{"code":"NOT_FOUND","reason":"RESOURCE_NOT_FOUND","message":...,
// "metadata":{...}}}, as an RPC would tell it. REQUIRES: !status.ok().
std::string ErrorJson(const absl::Status& status);
// The HTTP status that fits an error.
int HttpStatusOf(const absl::Status& status);

}  // namespace tdp::server

#endif  // SERVER_WEB_JSON_H_
