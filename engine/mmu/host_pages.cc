#include "engine/mmu/host_pages.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {

absl::Status CheckHostPages(const Backing& backing, GfnRange range) {
  for (const Gfn edge : {range.start, range.end}) {
    const GfnRange page = HostPageOf(backing, edge);
    if (!backing.range().Contains(edge) || page.start == edge) continue;
    return MakeError(
        ErrorReason::kGranuleUnsupported,
        absl::StrCat(
            "range [", Hex(range.start.value()), ", ", Hex(range.end.value()),
            ") cuts the 2M host page at frame ", Hex(page.start.value()),
            "; in the memslot that holds it, begin and end at "
            "multiples of ",
            page.size(), " frames"),
        {{"startGfn", Hex(range.start.value())},
         {"endGfn", Hex(range.end.value())},
         {"gfn", Hex(page.start.value())},
         {"pageFrames", absl::StrCat(page.size())}});
  }
  return absl::OkStatus();
}

absl::Status CheckHostPages(BackingTable& backings, GfnRange range) {
  for (const Gfn edge : {range.start, range.end}) {
    // Host pages are not larger.
    if (IsAligned(edge.value(), PageLevel::k2M)) continue;
    const PinResult found = backings.Pin(edge, PinMode::kUnmap);
    if (!found.pin) continue;
    if (absl::Status s = CheckHostPages(*found.pin, range); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status CheckLeafLevel(const Backing& backing, PageLevel level) {
  if (level >= backing.host_page_level()) return absl::OkStatus();
  const Gfn gfn = backing.range().start;
  return MakeError(
      ErrorReason::kGranuleUnsupported,
      absl::StrCat("mappings of 4K would cut the 2M host pages of the memslot "
                   "at frame ",
                   Hex(gfn.value()),
                   "; ask for PAGE_LEVEL_2M, or leave its frames out"),
      {{"gfn", Hex(gfn.value())}});
}

absl::Status CheckLeafLevel(BackingTable& backings, GfnRange range,
                            PageLevel level) {
  Gfn gfn = range.start;
  while (gfn < range.end && backings.NextBacked(gfn, &gfn) && gfn < range.end) {
    const PinResult found = backings.Pin(gfn, PinMode::kUnmap);
    if (!found.pin) {
      // Gone, or on its way to elsewhere.
      gfn += 1;
      continue;
    }
    if (absl::Status s = CheckLeafLevel(*found.pin, level); !s.ok()) return s;
    gfn = found.pin->range().end;
  }
  return absl::OkStatus();
}

}  // namespace tdp
