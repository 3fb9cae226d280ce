#include "engine/bench/null_backing.h"

#include <algorithm>
#include <utility>

#include "engine/sync/mutex.h"

namespace tdp::bench {
namespace {

// Counts outlive their threads; there are few threads.
Mutex counts_mutex;
std::vector<std::unique_ptr<HostCallCount>>& AllCounts() {
  static auto* const counts = new std::vector<std::unique_ptr<HostCallCount>>;
  return *counts;
}

HostCallCount* NewThreadCount() {
  MutexLock lock(counts_mutex);
  return AllCounts().emplace_back(std::make_unique<HostCallCount>()).get();
}

}  // namespace

HostCallCount& ThreadHostCalls() {
  static constinit thread_local HostCallCount* count = nullptr;
  if (count == nullptr) [[unlikely]]
    count = NewThreadCount();
  return *count;
}

HostCallCount HostCalls() {
  MutexLock lock(counts_mutex);
  HostCallCount sum;
  for (const auto& count : AllCounts()) {
    sum.map += count->map;
    sum.unmap += count->unmap;
    sum.protect += count->protect;
    sum.wake += count->wake;
  }
  return sum;
}

absl::Status NullBacking::Inspect(GfnRange, absl::Span<HostFrame> frames) {
  std::fill(frames.begin(), frames.end(), HostFrame{});
  return absl::OkStatus();
}

void NullBackingTable::Add(GfnRange range, PageLevel max_fault_level) {
  // Congruent modulo 2^18, as a memslot's frames are.
  const Pfn pfn(range.start.value() + FramesPerEntry(PageLevel::k1G));
  slots_.push_back(
      {range, std::make_unique<NullBacking>(range, pfn, max_fault_level)});
}

std::vector<NullBackingTable::Slot>::const_iterator NullBackingTable::FindSlot(
    Gfn gfn) const {
  return std::upper_bound(
      slots_.begin(), slots_.end(), gfn,
      [](Gfn frame, const Slot& slot) { return frame < slot.range.end; });
}

PinResult NullBackingTable::Pin(Gfn gfn, PinMode mode) {
  RcuReadGuard rcu(rcu_);
  const auto slot = FindSlot(gfn);
  PinResult result;
  if (slot == slots_.end() || !slot->range.Contains(gfn)) return result;
  if (slot->backing->TryPin(mode)) {
    result.pin = BackingPin(slot->backing.get(), mode == PinMode::kMap);
  } else {
    result.changing = true;
  }
  return result;
}

bool NullBackingTable::NextBacked(Gfn gfn, Gfn* next) {
  RcuReadGuard rcu(rcu_);
  const auto slot = FindSlot(gfn);
  if (slot == slots_.end()) return false;
  *next = std::max(gfn, slot->range.start);
  return true;
}

}  // namespace tdp::bench
