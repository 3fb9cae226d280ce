// tdpctl age: which frames did the guest touch?

#include <cstdint>

#include "absl/types/span.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/range_parameters.h"
#include "client/tdpctl/ranged_progress.h"
#include "client/tdpctl/run_table.h"

namespace tdp::client {
namespace {

void PrintAge(Session& session, const v1::AgeRangeRequest& request,
              const v1::AgeRangeResponse& found) {
  if (session.json()) {
    session.PrintJson(found);
    return;
  }
  session.out() << FramesText(found.young_frame_count())
                << (request.test_only() ? " young"
                                        : " young; their Accessed bits are "
                                          "cleared")
                << "\n";
  if (request.bitmap()) {
    PrintRuns("YOUNG", absl::MakeConstSpan(&found.young(), 1), session.out());
  }
}

absl::Status Age(Session& session, const v1::AgeRangeRequest& request,
                 v1::AgeRangeResponse& found) {
  RangedProgress progress(session, "age", RangeOf(request));
  return session.client().AgeRange(
      request, &found, [&](uint64_t next_gfn) { progress.Update(next_gfn); });
}

absl::Status RunAge(Session& session, const v1::AgeRangeRequest& request) {
  v1::AgeRangeResponse found;
  const absl::Status status = Age(session, request, found);
  // After an error too: the Accessed bits that told of it are cleared.
  const bool any = found.next_gfn() > request.range().start_gfn();
  if (status.ok() || any) PrintAge(session, request, found);
  return status;
}

}  // namespace

void AddAgeCommand(CommandSet& commands) {
  auto [parameters, args] = commands.Add(
      commands.root(), "age",
      "Count the frames that the guest touched, and clear their Accessed bits",
      RunAge);
  v1::AgeRangeRequest* request = args.get();
  AddVmAndRange(parameters, request, "Frames to visit");
  parameters.AddFlag({.name = "--test-only",
                      .description = "Leave the Accessed bits as they are"},
                     [=] { request->set_test_only(true); });
  parameters.AddFlag(
      {.name = "--bitmap", .description = "Show which frames are young"},
      [=] { request->set_bitmap(true); });
}

}  // namespace tdp::client
