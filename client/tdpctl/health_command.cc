// tdpctl health.

#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct HealthArgs {};

absl::Status RunHealth(Session& session, const HealthArgs&) {
  const absl::StatusOr<bool> serving = session.client().IsServing();
  if (!serving.ok()) return serving.status();
  if (session.json()) {
    session.out() << "{\"serving\":" << (*serving ? "true" : "false") << "}\n";
  } else if (*serving) {
    session.out() << "serving\n";
  }
  if (!*serving) session.Fail("the daemon is there, but does not serve");
  return absl::OkStatus();
}

}  // namespace

void AddHealthCommand(CommandSet& commands) {
  commands.Add(commands.root(), "health",
               "Ask whether the daemon serves; exits 1 if it does not",
               RunHealth);
}

}  // namespace tdp::client
