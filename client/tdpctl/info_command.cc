// tdpctl info.

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/lib/table.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct InfoArgs {};

void PrintInfo(const v1::GetInfoResponse& info, std::ostream& out) {
  out << "tdpd " << info.version() << ", serves "
      << absl::StrJoin(info.api_versions(), ", ") << "\n\n";
  Table capabilities({{"CAPABILITY"}, {"AVAILABLE"}, {"HINT"}});
  for (const v1::Capability& capability : info.capabilities()) {
    capabilities.AddRow({capability.name(),
                         capability.available() ? "yes" : "no",
                         capability.hint()});
  }
  capabilities.Flush(out);
  out << "\n";
  Table limits({{"LIMIT"}, {"VALUE", Align::kRight}});
  const std::map<std::string, int64_t> sorted(info.limits().begin(),
                                              info.limits().end());
  for (const auto& [name, value] : sorted) {
    limits.AddRow({name, absl::StrCat(value)});
  }
  limits.Flush(out);
}

absl::Status RunInfo(Session& session, const InfoArgs&) {
  const auto info = session.client().GetInfo();
  if (!info.ok()) return info.status();
  if (session.json()) {
    session.PrintJson(*info);
  } else {
    PrintInfo(*info, session.out());
  }
  return absl::OkStatus();
}

}  // namespace

void AddInfoCommand(CommandSet& commands) {
  commands.Add(commands.root(), "info",
               "Version, capabilities and limits of the daemon", RunInfo);
}

}  // namespace tdp::client
