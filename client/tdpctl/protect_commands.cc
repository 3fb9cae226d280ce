// tdpctl protect and write-protect.

#include <string>

#include "client/lib/mmu_operation.h"
#include "client/lib/page_level.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/range_parameters.h"
#include "client/tdpctl/ranged_progress.h"

namespace tdp::client {
namespace {

// Prints a response that counts changed entries.
template <typename Response>
absl::Status PrintChanged(Session& session,
                          const absl::StatusOr<Response>& response) {
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  session.out() << "changed "
                << CountText(response->changed_spte_count(), "entry", "entries")
                << "\n";
  return absl::OkStatus();
}

absl::Status RunProtect(Session& session,
                        const v1::ProtectRangeRequest& request) {
  return PrintChanged(
      session,
      CallWithProgress(session, "protect", &Client::ProtectRange, request));
}

absl::Status RunWriteProtect(Session& session,
                             const v1::WriteProtectRangeRequest& request) {
  return PrintChanged(session,
                      CallWithProgress(session, "write-protect",
                                       &Client::WriteProtectRange, request));
}

void AddProtect(CommandSet& commands) {
  auto [parameters, args] =
      commands.Add(commands.root(), "protect",
                   "Limit the access to a range, until changed", RunProtect);
  v1::ProtectRangeRequest* request = args.get();
  AddVmAndRange(parameters, request, "Frames to limit");
  parameters.Add(
      {.name = "--access",
       .description = "The most that is granted; what it forbids waits until "
                      "the limit is lifted",
       .presence = Presence::kRequired,
       .shown_type = "none|read|read-write"},
      ParseAccess,
      [=](const v1::Access& access) { *request->mutable_access() = access; });
}

void AddWriteProtect(CommandSet& commands) {
  auto [parameters, args] = commands.Add(
      commands.root(), "write-protect",
      "Make the next write of each frame of a range fault", RunWriteProtect);
  v1::WriteProtectRangeRequest* request = args.get();
  AddVmAndRange(parameters, request, "Frames to protect");
  parameters.AddChoice<v1::PageLevel>(
      {.name = "--min-level",
       .description = "Leave mappings below this level alone"},
      LevelChoices(v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_1G),
      [=](v1::PageLevel level) { request->set_min_level(level); });
}

}  // namespace

void AddProtectCommands(CommandSet& commands) {
  AddProtect(commands);
  AddWriteProtect(commands);
}

}  // namespace tdp::client
