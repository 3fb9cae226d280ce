// tdpctl split and collapse.

#include <string>

#include "client/lib/page_level.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/range_parameters.h"
#include "client/tdpctl/ranged_progress.h"

namespace tdp::client {
namespace {

absl::Status RunSplit(Session& session,
                      const v1::SplitHugePagesRequest& request) {
  const auto response =
      CallWithProgress(session, "split", &Client::SplitHugePages, request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "split " << CountText(response->split_count(), "huge page")
                  << "\n";
  }
  return absl::OkStatus();
}

absl::Status RunCollapse(Session& session,
                         const v1::CollapseHugePagesRequest& request) {
  const auto response = CallWithProgress(session, "collapse",
                                         &Client::CollapseHugePages, request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "collapsed "
                  << CountText(response->collapsed_count(), "table") << "\n";
  }
  return absl::OkStatus();
}

void AddSplit(CommandSet& commands) {
  auto [parameters, args] = commands.Add(
      commands.root(), "split",
      "Replace the huge mappings of a range by smaller ones", RunSplit);
  v1::SplitHugePagesRequest* request = args.get();
  AddVmAndRange(parameters, request, "Frames to visit");
  parameters.AddChoice<v1::PageLevel>(
      {.name = "--to",
       .description = "Split down to this level",
       .presence = Presence::kRequired},
      LevelChoices(v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_2M),
      [=](v1::PageLevel level) { request->set_target_level(level); });
}

void AddCollapse(CommandSet& commands) {
  auto [parameters, args] = commands.Add(
      commands.root(), "collapse",
      "Replace the full tables of a range by huge mappings where memory allows",
      RunCollapse);
  v1::CollapseHugePagesRequest* request = args.get();
  AddVmAndRange(parameters, request, "Frames to visit");
  parameters.AddChoice<v1::PageLevel>(
      {.name = "--max-level", .description = "Largest mapping to build"},
      LevelChoices(v1::PAGE_LEVEL_2M, v1::PAGE_LEVEL_1G),
      [=](v1::PageLevel level) { request->set_max_level(level); });
}

}  // namespace

void AddHugePageCommands(CommandSet& commands) {
  AddSplit(commands);
  AddCollapse(commands);
}

}  // namespace tdp::client
