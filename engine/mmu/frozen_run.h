// FrozenRun: consecutive entries of one table that the calling thread has
// frozen, and so owns, together with the values they had.
//
//   freeze (in an RCU section) -> host call (outside) -> final values -> wake
//
// Thread safety: belongs to one thread.
//
// Invariants: every frozen entry gets its final value, and Release() is called,
// before the run is destroyed (checked in debug builds). An owner never waits
// for another owner, takes mmu_lock, allocates a table or loads content.

#ifndef ENGINE_MMU_FROZEN_RUN_H_
#define ENGINE_MMU_FROZEN_RUN_H_

#include <cassert>
#include <cstdint>

#include "engine/base/types.h"
#include "engine/paging/page_table.h"
#include "engine/paging/spte.h"

namespace tdp {

class FrozenRun {
 public:
  FrozenRun() = default;
  ~FrozenRun() { assert(size_ == 0 && "a frozen entry was left behind"); }
  FrozenRun(const FrozenRun&) = delete;
  FrozenRun& operator=(const FrozenRun&) = delete;

  bool empty() const { return size_ == 0; }
  int size() const { return size_; }
  PageLevel level() const { return level_; }
  // Frames covered by the frozen entries.
  GfnRange range() const {
    return {gfn_, gfn_ + static_cast<uint64_t>(size_) * FramesPerEntry(level_)};
  }
  Gfn gfn(int i) const {
    return gfn_ + static_cast<uint64_t>(i) * FramesPerEntry(level_);
  }
  SptePtr entry(int i) const { return first_ + i; }
  Spte old_spte(int i) const { return Spte::FromRaw(old_raw_[i]); }

  // Freezes the entry that follows the run (or begins it). Returns false, and
  // changes nothing, if the entry is no longer `expected`, which then holds
  // what was found. REQUIRES: an RCU read section; `expected` is not frozen.
  [[nodiscard]] bool TryExtend(SptePtr entry, Gfn gfn, PageLevel level,
                               Spte& expected) {
    assert(size_ == 0 || (gfn == range().end && level == level_));
    assert(!expected.IsFrozen());
    const Spte old = expected;
    if (!TryWriteSpte(entry, expected, Spte::Frozen())) return false;
    if (size_ == 0) {
      first_ = entry;
      gfn_ = gfn;
      level_ = level;
    }
    old_raw_[size_++] = old.raw();
    return true;
  }

  // The owner has written every final value.
  void Release() { size_ = 0; }

 private:
  SptePtr first_;
  Gfn gfn_;
  PageLevel level_ = PageLevel::k4K;
  int size_ = 0;
  // Left uninitialised: filling it would cost more than most runs.
  uint64_t old_raw_[kEntriesPerTable];
};

}  // namespace tdp

#endif  // ENGINE_MMU_FROZEN_RUN_H_
