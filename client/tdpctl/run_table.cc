#include "client/tdpctl/run_table.h"

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/bitmap.h"
#include "client/lib/table.h"

namespace tdp::client {
namespace {

// Rows that line up with each other.
constexpr size_t kRowsPerFlush = 1024;

}  // namespace

void PrintRuns(const std::string& title, absl::Span<const v1::Bitmap> bitmaps,
               std::ostream& out) {
  Table table({{title}, {"FRAMES", Align::kRight}, {"SIZE", Align::kRight}});
  bool any = false;
  ForEachRun(bitmaps, [&](FrameRange run) {
    const uint64_t frames = run.end_gfn - run.start_gfn;
    if (!any) out << "\n";
    any = true;
    table.AddRow({FormatFrameRange(run), absl::StrCat(frames),
                  FormatSize(frames << kFrameShift)});
    if (table.pending_row_count() == kRowsPerFlush) table.Flush(out);
  });
  if (any) table.Flush(out);
}

}  // namespace tdp::client
