#include "engine/base/range_properties.h"

#include <algorithm>

#include "engine/base/check.h"

namespace tdp {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr Wide kSpaceEnd = Wide{1} << 64;
constexpr int kMaxPieces = 70;

// [start, end), empty if `end` is not behind `start`.
struct WideRange {
  Wide start;
  Wide end;

  bool empty() const { return end <= start; }
  bool Has(Wide frame) const { return start <= frame && frame < end; }
};

WideRange WideOf(GfnRange range) {
  return {range.start.value(), range.end.value()};
}

WideRange CommonPart(WideRange a, WideRange b) {
  return {std::max(a.start, b.start), std::min(a.end, b.end)};
}

Wide FramesAt(int level) {
  Wide frames = 1;
  for (int i = 1; i < level; ++i) frames *= 512;
  return frames;
}

// The frames of the entry of `level` that covers `frame`.
WideRange EntryOf(Wide frame, int level) {
  const Wide frames = FramesAt(level);
  const Wide start = frame / frames * frames;
  return {start, start + frames};
}

void CheckOne(GfnRange range, uint64_t gfn) {
  const WideRange wide = WideOf(range);
  TDP_CHECK(range.empty() == wide.empty(), "empty()");
  TDP_CHECK(range.Contains(Gfn(gfn)) == wide.Has(gfn), "Contains(Gfn)");
  if (wide.empty()) return;
  TDP_CHECK(range.size() == wide.end - wide.start, "size()");
  TDP_CHECK(range.Contains(range) && range.Overlaps(range),
            "a range has itself");
}

void CheckTwo(GfnRange range, GfnRange other) {
  const WideRange wide = WideOf(range);
  const WideRange wide_other = WideOf(other);
  const WideRange common = CommonPart(wide, wide_other);
  const GfnRange part = range.Intersect(other);
  TDP_CHECK(part.empty() == common.empty(), "Intersect() is empty");
  TDP_CHECK(part == other.Intersect(range), "Intersect() is symmetric");
  if (!common.empty()) {
    TDP_CHECK(WideOf(part).start == common.start, "Intersect() starts");
    TDP_CHECK(WideOf(part).end == common.end, "Intersect() ends");
  }
  if (wide.empty() || wide_other.empty()) return;
  TDP_CHECK(range.Overlaps(other) == !common.empty(), "Overlaps()");
  TDP_CHECK(range.Contains(other) == (common.start == wide_other.start &&
                                      common.end == wide_other.end),
            "Contains(GfnRange)");
}

void CheckLevel(uint64_t frame, PageLevel level) {
  const int number = static_cast<int>(level);
  const WideRange entry = EntryOf(frame, number);
  const Gfn gfn(frame);
  TDP_CHECK(FramesPerEntry(level) == FramesAt(number), "FramesPerEntry()");
  TDP_CHECK(AlignDown(gfn, level).value() == entry.start, "AlignDown()");
  TDP_CHECK(IsAligned(frame, level) == (entry.start == frame), "IsAligned()");
  const Wide in_level = Wide{frame} / FramesAt(number);
  TDP_CHECK(static_cast<Wide>(IndexIn(gfn, level)) == in_level % 512,
            "IndexIn()");
}

// Cuts the range at the borders of entries, from its start.
void CheckPieces(GfnRange range, PageLevel level) {
  const Gfn end = range.end;
  for (int i = 0; i < kMaxPieces && !range.empty(); ++i) {
    const WideRange want = CommonPart(
        WideOf(range), EntryOf(range.start.value(), static_cast<int>(level)));
    const GfnRange piece = FirstEntryOf(range, level);
    TDP_CHECK(piece.start == range.start, "a piece starts where the rest does");
    TDP_CHECK(piece.end.value() == want.end, "FirstEntryOf() ends");
    TDP_CHECK(!piece.empty(), "cutting makes progress");
    range.start = piece.end;
  }
  TDP_CHECK(range.start <= end || range.empty(), "pieces end with the range");
}

void CheckAddress(uint64_t frame) {
  const Wide gpa = Wide{frame} * kPageSize;
  if (gpa >= kSpaceEnd) return;
  TDP_CHECK(GpaOf(Gfn(frame)).value() == gpa, "GpaOf()");
  TDP_CHECK(GfnOf(GpaOf(Gfn(frame))) == Gfn(frame), "GfnOf() of GpaOf()");
  TDP_CHECK(
      GfnOf(Gpa(static_cast<uint64_t>(gpa) + kPageSize - 1)).value() == frame,
      "GfnOf() of a frame's last byte");
}

}  // namespace

void CheckRangeProperties(GfnRange range, GfnRange other, uint64_t gfn) {
  CheckOne(range, gfn);
  CheckTwo(range, other);
  CheckAddress(gfn);
  for (PageLevel level = PageLevel::k4K;; level = ParentLevel(level)) {
    CheckLevel(gfn, level);
    CheckPieces(range, level);
    if (level == PageLevel::k256T) break;
    TDP_CHECK(FramesOfRoot(level) == FramesPerEntry(ParentLevel(level)),
              "FramesOfRoot()");
  }
}

}  // namespace tdp
