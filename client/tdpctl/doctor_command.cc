// tdpctl doctor.

#include <string>

#include "client/lib/host_checks.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/struct.pb.h"

namespace tdp::client {
namespace {

struct DoctorArgs {};

const char* Word(HostCheck::Result result) {
  switch (result) {
    case HostCheck::Result::kOk:
      return "ok";
    case HostCheck::Result::kWarning:
      return "warning";
    case HostCheck::Result::kFailed:
      return "failed";
  }
  return "";
}

void Print(Session& session, const HostCheck& check) {
  if (session.json()) {
    google::protobuf::Struct line;
    auto& fields = *line.mutable_fields();
    fields["check"].set_string_value(check.name);
    fields["result"].set_string_value(Word(check.result));
    fields["found"].set_string_value(check.found);
    if (!check.mend.empty()) fields["mend"].set_string_value(check.mend);
    session.PrintJson(line);
    return;
  }
  constexpr char kGreen[] = "\033[32m";
  constexpr char kYellow[] = "\033[33m";
  constexpr char kRed[] = "\033[31m";
  constexpr char kPlain[] = "\033[0m";
  const bool colors = session.out_terminal().colors;
  const char* color = check.result == HostCheck::Result::kOk        ? kGreen
                      : check.result == HostCheck::Result::kWarning ? kYellow
                                                                    : kRed;
  session.out() << (colors ? color : "") << Word(check.result)
                << (colors ? kPlain : "") << "  " << check.name << ": "
                << check.found << "\n";
  if (!check.mend.empty()) session.out() << "    " << check.mend << "\n";
}

// One command, or a sentence where no command helps.
std::string MendDaemon(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return "systemctl start tdpd";
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return "let /etc/tdpd/policy allow you info, and be whom it names";
    default:
      return "journalctl -u tdpd";
  }
}

// The daemon, and what it says of its host: it may run as somebody else.
std::vector<HostCheck> CheckDaemon(Client& client) {
  const auto info = client.GetInfo();
  if (!info.ok()) {
    return {{.name = "daemon",
             .result = HostCheck::Result::kWarning,
             .found = std::string(info.status().message()),
             .mend = MendDaemon(info.status())}};
  }
  std::vector<HostCheck> checks = {
      {.name = "daemon", .found = "tdpd " + info->version() + " answers"}};
  for (const v1::Capability& capability : info->capabilities()) {
    if (capability.available()) continue;
    checks.push_back({.name = "daemon, " + capability.name(),
                      .result = HostCheck::Result::kWarning,
                      .found = "not available",
                      .mend = capability.hint()});
  }
  return checks;
}

absl::Status RunDoctor(Session& session, const DoctorArgs&) {
  bool failed = false;
  for (const HostCheck& check : CheckHost(SystemProbe())) {
    Print(session, check);
    failed = failed || check.result == HostCheck::Result::kFailed;
  }
  for (const HostCheck& check : CheckDaemon(session.client())) {
    Print(session, check);
  }
  if (failed) session.Fail("tdpd cannot work here as it is");
  return absl::OkStatus();
}

}  // namespace

void AddDoctorCommand(CommandSet& commands) {
  commands.Add(commands.root(), "doctor",
               "Check what tdpd needs of this host, and say how to mend it",
               RunDoctor);
}

}  // namespace tdp::client
