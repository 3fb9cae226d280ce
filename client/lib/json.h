// Messages as proto3 JSON, on one line and always in the same order.
//
// Fields without presence are printed with their defaults, so that a script
// finds a count that is zero.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_JSON_H_
#define CLIENT_LIB_JSON_H_

#include <string>

#include "google/protobuf/message.h"

namespace tdp::client {

std::string ToJson(const google::protobuf::Message& message);

}  // namespace tdp::client

#endif  // CLIENT_LIB_JSON_H_
