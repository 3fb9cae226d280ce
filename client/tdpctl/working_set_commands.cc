// tdpctl ws estimate and watch.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "client/lib/duration.h"
#include "client/lib/live_block.h"
#include "client/lib/terminal.h"
#include "client/lib/working_set_text.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

constexpr absl::Duration kDefaultInterval = absl::Seconds(1);

struct WatchArgs {
  std::string vm;
  absl::Duration interval = kDefaultInterval;
  int64_t count = std::numeric_limits<int64_t>::max();
};

std::optional<int> Columns(const Terminal& terminal) {
  if (!terminal.exists()) return std::nullopt;
  return terminal.size().columns;
}

absl::Status RunEstimate(Session& session,
                         const v1::EstimateWorkingSetRequest& request) {
  const auto response = session.client().EstimateWorkingSet(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << WorkingSetText(response->working_set(),
                                    Columns(session.out_terminal()));
  }
  return absl::OkStatus();
}

absl::Status RunWatch(Session& session, const WatchArgs& args) {
  v1::WatchWorkingSetRequest request;
  request.set_vm(args.vm);
  *request.mutable_interval() =
      google::protobuf::util::TimeUtil::NanosecondsToDuration(
          absl::ToInt64Nanoseconds(args.interval));
  LiveBlock block(session.out_terminal(), session.out());
  int64_t left = args.count;
  return session.client().WatchWorkingSet(
      request, [&](const v1::WatchWorkingSetResponse& response) {
        if (session.json()) {
          session.PrintJson(response);
        } else {
          block.Show(WorkingSetText(response.working_set(),
                                    Columns(session.out_terminal())));
        }
        // Nobody is watching any more if the output is closed.
        return --left > 0 && session.out().good();
      });
}

}  // namespace

void AddWorkingSetCommands(CommandSet& commands) {
  const CommandSet::Group group = commands.AddGroup(
      "ws", "Show the working set: frames by the time since their last use");
  auto estimate = commands.Add(
      group, "estimate",
      "Look once; each frame in use costs the guest one fault", RunEstimate);
  v1::EstimateWorkingSetRequest* request = estimate.args.get();
  estimate.parameters.AddVm(
      [=](const std::string& vm) { request->set_vm(vm); });
  auto watch = commands.Add(
      group, "watch",
      "Look again and again; on a terminal the histogram is redrawn", RunWatch);
  WatchArgs* args = watch.args.get();
  watch.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  watch.parameters.Add(
      {.name = "--interval",
       .description = "Time between two scans, e.g. 10, 500ms, 2m",
       .shown_default = "1s"},
      ParsePositiveDuration,
      [=](absl::Duration interval) { args->interval = interval; });
  watch.parameters.Add(
      {.name = "--count",
       .description = "End after this many scans; never unless given"},
      ParseCount, [=](int64_t count) { args->count = count; });
}

}  // namespace tdp::client
