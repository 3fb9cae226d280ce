// tdpctl map, zap and zap-all.

#include <string>

#include "client/lib/page_level.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/range_parameters.h"
#include "client/tdpctl/ranged_progress.h"

namespace tdp::client {
namespace {

absl::Status RunMap(Session& session, const v1::MapRangeRequest& request) {
  const auto response =
      CallWithProgress(session, "map", &Client::MapRange, request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "mapped " << FramesText(response->mapped_frame_count())
                  << "\n";
  }
  return absl::OkStatus();
}

absl::Status RunZap(Session& session, const v1::ZapRangeRequest& request) {
  const auto response =
      CallWithProgress(session, "zap", &Client::ZapRange, request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "zapped " << FramesText(response->zapped_frame_count())
                  << "\n";
  }
  return absl::OkStatus();
}

absl::Status RunZapAll(Session& session, const v1::ZapAllRequest& request) {
  const auto response = session.client().ZapAll(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  session.out() << "invalidated " << CountText(response->root_count(), "root")
                << (request.wait() ? "; the old tables are freed" : "") << "\n";
  return absl::OkStatus();
}

void AddMap(CommandSet& commands) {
  auto [parameters, args] =
      commands.Add(commands.root(), "map",
                   "Map a range before the guest touches it", RunMap);
  v1::MapRangeRequest* request = args.get();
  AddVmAndRange(parameters, request, "Frames to map");
  parameters.AddFlag({.name = "--write",
                      .description = "Map writable memory writable at once"},
                     [=] { request->set_write(true); });
  parameters.AddChoice<v1::PageLevel>(
      {.name = "--max-level", .description = "Largest mapping to install"},
      LevelChoices(v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_2M),
      [=](v1::PageLevel level) { request->set_max_level(level); });
}

void AddZapAll(CommandSet& commands) {
  auto [parameters, args] =
      commands.Add(commands.root(), "zap-all",
                   "Invalidate the root and free the old tables", RunZapAll);
  v1::ZapAllRequest* request = args.get();
  parameters.AddVm([=](const std::string& vm) { request->set_vm(vm); });
  parameters.AddFlag(
      {.name = "--wait",
       .description = "Return only after the old tables have been freed"},
      [=] { request->set_wait(true); });
}

}  // namespace

void AddMapCommands(CommandSet& commands) {
  AddMap(commands);
  auto zap =
      commands.Add(commands.root(), "zap",
                   "Remove the mappings of a range; memory stays", RunZap);
  AddVmAndRange(zap.parameters, zap.args.get(), "Frames to unmap");
  AddZapAll(commands);
}

}  // namespace tdp::client
