// Strong types for the address spaces that the engine moves between, and the
// small values that every layer shares.
//
// A frame is 4 KiB. Ranges are half-open and never empty once validated. No
// type converts implicitly; arithmetic stays inside one space.
//
// Thread safety: every type here is a plain value.

#ifndef ENGINE_BASE_TYPES_H_
#define ENGINE_BASE_TYPES_H_

#include <algorithm>
#include <compare>
#include <cstdint>

namespace tdp {

inline constexpr int kPageShift = 12;
inline constexpr uint64_t kPageSize = uint64_t{1} << kPageShift;

// An integer that lives in the address space named by `Tag`.
template <typename Tag>
class AddressValue {
 public:
  constexpr AddressValue() = default;
  constexpr explicit AddressValue(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(AddressValue, AddressValue) = default;
  friend constexpr AddressValue operator+(AddressValue a, uint64_t delta) {
    return AddressValue(a.value_ + delta);
  }
  friend constexpr AddressValue operator-(AddressValue a, uint64_t delta) {
    return AddressValue(a.value_ - delta);
  }
  // The distance between two addresses. REQUIRES: a >= b.
  friend constexpr uint64_t operator-(AddressValue a, AddressValue b) {
    return a.value_ - b.value_;
  }
  constexpr AddressValue& operator+=(uint64_t delta) {
    value_ += delta;
    return *this;
  }

 private:
  uint64_t value_ = 0;
};

using Gfn = AddressValue<struct GfnTag>;  // guest frame number, gpa >> 12
using Gpa = AddressValue<struct GpaTag>;  // guest physical address, bytes
using Hva = AddressValue<struct HvaTag>;  // host virtual address, bytes
using Pfn = AddressValue<struct PfnTag>;  // frame of a VM's backing memory

// The end of a range without one. No frame is there.
inline constexpr Gfn kGfnEnd{~uint64_t{0}};

constexpr Gfn GfnOf(Gpa gpa) { return Gfn(gpa.value() >> kPageShift); }
constexpr Gpa GpaOf(Gfn gfn) { return Gpa(gfn.value() << kPageShift); }

// [start, end) in frames.
struct GfnRange {
  Gfn start;
  Gfn end;

  constexpr uint64_t size() const { return end - start; }
  constexpr bool empty() const { return end <= start; }
  constexpr bool Contains(Gfn gfn) const { return start <= gfn && gfn < end; }
  constexpr bool Contains(GfnRange other) const {
    return start <= other.start && other.end <= end;
  }
  constexpr bool Overlaps(GfnRange other) const {
    return start < other.end && other.start < end;
  }
  // The common part; empty() if there is none.
  constexpr GfnRange Intersect(GfnRange other) const {
    return {std::max(start, other.start), std::min(end, other.end)};
  }

  friend constexpr bool operator==(GfnRange, GfnRange) = default;
};

// Height of a table in the tree, numbered as KVM numbers PG_LEVEL_*. An entry
// at level n maps, or covers, 512^(n-1) frames.
enum class PageLevel : uint8_t {
  k4K = 1,
  k2M = 2,
  k1G = 3,
  k512G = 4,
  k256T = 5,
};

inline constexpr PageLevel kMaxLeafLevel = PageLevel::k1G;
inline constexpr PageLevel kMaxRootLevel = PageLevel::k256T;
inline constexpr int kTableIndexBits = 9;
inline constexpr int kEntriesPerTable = 1 << kTableIndexBits;

constexpr PageLevel ChildLevel(PageLevel level) {
  return static_cast<PageLevel>(static_cast<int>(level) - 1);
}
constexpr PageLevel ParentLevel(PageLevel level) {
  return static_cast<PageLevel>(static_cast<int>(level) + 1);
}
// Frames that one entry of `level` covers.
constexpr uint64_t FramesPerEntry(PageLevel level) {
  return uint64_t{1} << (kTableIndexBits * (static_cast<int>(level) - 1));
}
// `gfn` rounded down to the first frame of its entry at `level`.
constexpr Gfn AlignDown(Gfn gfn, PageLevel level) {
  return Gfn(gfn.value() & ~(FramesPerEntry(level) - 1));
}
// The part of `range` in the entry of `level` that covers its first frame.
constexpr GfnRange FirstEntryOf(GfnRange range, PageLevel level) {
  // The end of the very last entry is no frame number.
  const Gfn last = AlignDown(range.start, level) + (FramesPerEntry(level) - 1);
  return {range.start, range.end > last ? last + 1 : range.end};
}
constexpr bool IsAligned(uint64_t frame, PageLevel level) {
  return (frame & (FramesPerEntry(level) - 1)) == 0;
}
// Index of the entry for `gfn` in a table whose entries are of `level`.
constexpr int IndexIn(Gfn gfn, PageLevel level) {
  return static_cast<int>(
      (gfn.value() >> (kTableIndexBits * (static_cast<int>(level) - 1))) &
      (kEntriesPerTable - 1));
}
// Frames that a root of `root_level` spans.
constexpr uint64_t FramesOfRoot(PageLevel root_level) {
  return FramesPerEntry(root_level) << kTableIndexBits;
}

// Access that a mapping grants or a guest tries. Instruction fetches count as
// reads: a fetch arrives at userfaultfd as a read.
struct Access {
  bool read = false;
  bool write = false;

  friend constexpr bool operator==(Access, Access) = default;
};

}  // namespace tdp

#endif  // ENGINE_BASE_TYPES_H_
