// tdpctl age: which frames did the guest touch?

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/age_sum.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/range_parameters.h"

namespace tdp::client {
namespace {

// Rows that line up with each other.
constexpr size_t kRowsPerFlush = 1024;

void PrintRuns(const v1::Bitmap& young, std::ostream& out) {
  Table table({{"YOUNG"}, {"FRAMES", Align::kRight}, {"SIZE", Align::kRight}});
  bool any = false;
  ForEachRun(young, [&](FrameRange run) {
    const uint64_t frames = run.end_gfn - run.start_gfn;
    if (!any) out << "\n";
    any = true;
    table.AddRow({FormatFrameRange(run), absl::StrCat(frames),
                  FormatSize(frames << kFrameShift)});
    if (table.pending_row_count() == kRowsPerFlush) table.Flush(out);
  });
  if (any) table.Flush(out);
}

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
  if (request.bitmap()) PrintRuns(found.young(), session.out());
}

absl::Status RunAge(Session& session, const v1::AgeRangeRequest& request) {
  v1::AgeRangeResponse found;
  const absl::Status status = session.client().AgeRange(request, &found);
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
