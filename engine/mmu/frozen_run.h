// FrozenRun: consecutive entries of one table that the calling thread has
// frozen, and so owns, together with the values they had and the ones they are
// to get.
//
//   freeze (in an RCU section) -> host call (outside) -> final values -> wake
//
// Thread safety: belongs to one thread.
//
// Invariants: every frozen entry gets its final value, and Release() is called,
// before the run is destroyed (checked in debug builds). An owner never waits
// for another owner, takes mmu_lock (a batch does: batch.h), allocates a table
// or loads content.

#ifndef ENGINE_MMU_FROZEN_RUN_H_
#define ENGINE_MMU_FROZEN_RUN_H_

#include <cassert>
#include <cstdint>

#include "engine/base/types.h"
#include "engine/paging/page_table.h"
#include "engine/paging/spte.h"

namespace tdp {

// What makes the final values of a run true on the host.
enum class HostStep { kNone, kUnmap, kReadOnly, kReadWrite };

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
  Spte old_spte(int i) const {
    return is_new_ ? Spte::NonPresent() : Spte::FromRaw(values_[i].old_raw);
  }
  Spte target(int i) const { return Spte::FromRaw(values_[i].target_raw); }
  void set_target(int i, Spte target) {
    Count(this->target(i), -1);
    Count(target, 1);
    values_[i].target_raw = target.raw();
  }
  // What the targets, once written, add to the leaves and tables of the level.
  int64_t leaf_delta() const { return leaf_delta_; }
  int64_t table_delta() const { return table_delta_; }

  HostStep host_step() const { return host_step_; }
  void set_host_step(HostStep step) { host_step_ = step; }

  // Freezes the entry that follows the run (or begins it), to become `target`.
  // Returns false, and changes nothing, if the entry is no longer `old`.
  // REQUIRES: an RCU read section; `old` is not frozen.
  [[nodiscard]] bool TryExtend(SptePtr entry, Gfn gfn, PageLevel level,
                               Spte old, Spte target) {
    assert(size_ == 0 || (gfn == range().end && level == level_));
    assert(!old.IsFrozen() && !is_new_);
    if (!TryWriteSpte(entry, old, Spte::Frozen())) return false;
    if (size_ == 0) {
      first_ = entry;
      gfn_ = gfn;
      level_ = level;
    }
    Count(old, -1, level);
    Count(target, 1, level);
    values_[size_].old_raw = old.raw();
    values_[size_].target_raw = target.raw();
    ++size_;
    return true;
  }

  // Freezes up to `count` 4K entries from `entry` on, to become `target` and
  // the leaves of the frames behind its frame, as long as they are not present.
  // REQUIRES: the run is empty; an RCU read section.
  void FreezeNew(SptePtr entry, Gfn gfn, int count, Spte target);

  // Freezes up to `count` leaves behind the run, as long as
  // `plan(gfn, old, target)` is true, which then gives the target. For the
  // first `like_count` the plan of a leaf holds also for a next one that is
  // like it but for the frame. REQUIRES: the run is of a leaf, and not empty;
  // an RCU read section.
  template <typename Plan>
  void FreezeLeaves(int count, int like_count, Plan&& plan);

  // The owner has written every final value.
  void Release() {
    size_ = 0;
    leaf_delta_ = 0;
    table_delta_ = 0;
    is_new_ = false;
  }

 private:
  void Count(Spte spte, int sign) { Count(spte, sign, level_); }
  // The level of the caller is one that the compiler may know.
  void Count(Spte spte, int sign, PageLevel level) {
    if (spte.IsLeaf(level)) {
      leaf_delta_ += sign;
    } else if (spte.IsPresent()) {
      table_delta_ += sign;
    }
  }

  SptePtr first_;
  Gfn gfn_;
  PageLevel level_ = PageLevel::k4K;
  int size_ = 0;
  HostStep host_step_ = HostStep::kNone;
  int leaf_delta_ = 0;
  int table_delta_ = 0;
  bool is_new_ = false;  // by FreezeNew(): no entry was present
  // Left uninitialised: filling it would cost more than most runs.
  // Together: in two arrays of a page each, a store to the one would look to
  // the processor like one to the other, and like one to the table.
  struct Values {
    uint64_t old_raw;
    uint64_t target_raw;
  };
  Values values_[kEntriesPerTable];
};

// Both loops write as little as they can between two compare-exchanges: each of
// these waits for the stores before it.
inline void FrozenRun::FreezeNew(SptePtr entry, Gfn gfn, int count,
                                 Spte target) {
  assert(size_ == 0);
  int frozen = 0;
  for (; frozen < count; ++frozen) {
    if (!TryWriteSpte(entry + frozen, Spte::NonPresent(), Spte::Frozen())) {
      break;
    }
    values_[frozen].target_raw = target.raw();
    target = target.OfNextFrame();
  }
  first_ = entry;
  gfn_ = gfn;
  level_ = PageLevel::k4K;
  size_ = frozen;
  leaf_delta_ = frozen;
  is_new_ = true;
}

template <typename Plan>
void FrozenRun::FreezeLeaves(int count, int like_count, Plan&& plan) {
  assert(size_ != 0 && !is_new_);
  const PageLevel level = level_;
  const uint64_t frames = FramesPerEntry(level);
  const SptePtr first = first_ + size_;
  int size = size_;
  // What the next leaf and its target are if they are like the last ones.
  uint64_t old_raw = values_[size - 1].old_raw;
  Spte target = this->target(size - 1);
  uint64_t target_step = target.IsLeaf(level) ? frames * kPageSize : 0;
  int gone = 0;
  for (int i = 0; i < count; ++i) {
    const Spte old = ReadSpte(first + i);
    target = Spte::FromRaw(target.raw() + target_step);
    if (old.raw() != old_raw + frames * kPageSize || i >= like_count) {
      if (!old.IsLeaf(level) || !plan(gfn(size), old, target)) break;
      target_step = target.IsLeaf(level) ? frames * kPageSize : 0;
    }
    if (!TryWriteSpte(first + i, old, Spte::Frozen())) break;
    old_raw = old.raw();
    values_[size].old_raw = old_raw;
    values_[size].target_raw = target.raw();
    gone += target_step == 0 ? 1 : 0;
    ++size;
  }
  size_ = size;
  leaf_delta_ -= gone;
}

}  // namespace tdp

#endif  // ENGINE_MMU_FROZEN_RUN_H_
