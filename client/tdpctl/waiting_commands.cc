// tdpctl waiting list and resolve.

#include <string>

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/spte_text.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct ListArgs {
  std::string vm;
};

void PrintAccesses(const v1::ListWaitingAccessesResponse& waiting,
                   std::ostream& out) {
  Table table({{"ID", Align::kRight},
               {"VCPU", Align::kRight},
               {"ADDRESS"},
               {"ACCESS"},
               {"CAUSE"},
               {"DETAIL"}});
  for (const v1::AccessWaiting& access : waiting.accesses()) {
    table.AddRow(
        {absl::StrCat(access.access_id()), absl::StrCat(access.vcpu_index()),
         FormatFrameAddress(access.gfn()), AccessText(access.access()),
         EnumText(v1::AccessWaiting::Cause_Name(access.cause()), "CAUSE_"),
         access.detail()});
  }
  table.Flush(out);
}

absl::Status RunList(Session& session, const ListArgs& args) {
  const auto response = session.client().ListWaitingAccesses(args.vm);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    PrintAccesses(*response, session.out());
  }
  return absl::OkStatus();
}

std::string DoneText(const v1::ResolveAccessRequest& request) {
  switch (request.verdict()) {
    case v1::ResolveAccessRequest::VERDICT_GRANT:
      return absl::StrCat("granted access ", request.access_id());
    case v1::ResolveAccessRequest::VERDICT_KILL:
      return absl::StrCat("stopped ", request.vm(), ", whose access ",
                          request.access_id(), " waited");
    default:
      return absl::StrCat("retried access ", request.access_id());
  }
}

absl::Status RunResolve(Session& session,
                        const v1::ResolveAccessRequest& request) {
  const auto response = session.client().ResolveAccess(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << DoneText(request) << "\n";
  }
  return absl::OkStatus();
}

void AddResolve(CommandSet& commands) {
  auto [parameters, args] =
      commands.Add(commands.root(), "resolve",
                   "Decide about an access that waits", RunResolve);
  v1::ResolveAccessRequest* request = args.get();
  parameters.AddVm([=](const std::string& vm) { request->set_vm(vm); });
  parameters.Add(
      {.name = "ACCESS_ID",
       .description = "As \"waiting list\" and \"events\" show it, e.g. 7",
       .presence = Presence::kRequired},
      ParseInteger<int64_t>, [=](int64_t id) { request->set_access_id(id); });
  parameters.AddChoice<v1::ResolveAccessRequest::Verdict>(
      {.name = "VERDICT",
       .description = "Let it happen, look again, or stop the VM as failed",
       .presence = Presence::kRequired},
      {{"grant", v1::ResolveAccessRequest::VERDICT_GRANT},
       {"retry", v1::ResolveAccessRequest::VERDICT_RETRY},
       {"kill", v1::ResolveAccessRequest::VERDICT_KILL}},
      [=](v1::ResolveAccessRequest::Verdict verdict) {
        request->set_verdict(verdict);
      });
}

}  // namespace

void AddWaitingCommands(CommandSet& commands) {
  const CommandSet::Group group =
      commands.AddGroup("waiting", "Show the accesses that wait for a verdict");
  auto list = commands.Add(
      group, "list", "Show every access that waits, oldest first", RunList);
  ListArgs* args = list.args.get();
  list.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  AddResolve(commands);
}

}  // namespace tdp::client
