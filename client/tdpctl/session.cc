#include "client/tdpctl/session.h"

#include <utility>

#include "client/lib/json.h"
#include "google/protobuf/struct.pb.h"

namespace tdp::client {

Session::Session(std::vector<Daemon> daemons, OutputForm form, Io io)
    : daemons_(std::move(daemons)), form_(form), io_(std::move(io)) {}

void Session::PrintJson(const google::protobuf::Message& message) {
  io_.out << ToJson(message) << std::endl;
}

void Session::PrintJson(const Daemon& daemon,
                        const google::protobuf::Message& message) {
  if (!is_fleet()) {
    PrintJson(message);
    return;
  }
  google::protobuf::Value address;
  address.set_string_value(daemon.address);
  const std::string fields = ToJson(message).substr(1);  // after the brace
  io_.out << "{\"daemon\":" << ToJson(address) << (fields == "}" ? "" : ",")
          << fields << std::endl;
}

void Session::Fail(absl::string_view sentence) {
  Complain(sentence, kExitError);
}

void Session::UsageError(absl::string_view sentence) {
  Complain(sentence, kExitUsage);
}

void Session::Complain(absl::string_view sentence, int exit_code) {
  io_.err << "tdpctl: " << sentence << "\n";
  exit_code_ = exit_code;
}

}  // namespace tdp::client
