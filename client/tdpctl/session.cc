#include "client/tdpctl/session.h"

#include <utility>

#include "client/lib/json.h"

namespace tdp::client {

Session::Session(std::vector<Daemon> daemons, OutputForm form, Io io)
    : daemons_(std::move(daemons)), form_(form), io_(std::move(io)) {}

void Session::PrintJson(const google::protobuf::Message& message) {
  io_.out << ToJson(message) << std::endl;
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
