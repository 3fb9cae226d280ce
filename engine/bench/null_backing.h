// Backings without a host: every host call succeeds and does nothing but count
// itself. What a verb costs with them is what the engine itself costs.
//
// Looking a memslot up and pinning it cost what they cost in MemslotTable: a
// read section, a binary search and a PinCount.
//
// Thread safety: all methods, from any thread, after the slots were added.
// HostCalls() while nobody makes any.

#ifndef ENGINE_BENCH_NULL_BACKING_H_
#define ENGINE_BENCH_NULL_BACKING_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/sync/pin_count.h"
#include "engine/sync/rcu.h"

namespace tdp::bench {

// The calls of one thread; no other thread writes its line.
struct alignas(128) HostCallCount {
  int64_t map = 0;
  int64_t unmap = 0;
  int64_t protect = 0;
  int64_t wake = 0;
};

// This thread's own.
HostCallCount& ThreadHostCalls();
// Of all threads, those that have ended included.
HostCallCount HostCalls();

class NullBacking final : public Backing {
 public:
  NullBacking(GfnRange range, Pfn base_pfn, PageLevel max_fault_level)
      : range_(range), base_pfn_(base_pfn), max_fault_level_(max_fault_level) {}

  GfnRange range() const override { return range_; }
  Pfn base_pfn() const override { return base_pfn_; }
  bool writable() const override { return true; }
  bool tracks_writes() const override { return false; }
  PageLevel max_fault_level() const override { return max_fault_level_; }
  PageLevel host_page_level() const override { return PageLevel::k4K; }
  absl::Status LoadContent(GfnRange) override { return absl::OkStatus(); }
  HostCallResult Map(GfnRange run, HostProtection) override {
    ++ThreadHostCalls().map;
    return {.done_frames = run.size()};
  }
  HostCallResult Unmap(GfnRange run) override {
    ++ThreadHostCalls().unmap;
    return {.done_frames = run.size()};
  }
  HostCallResult Protect(GfnRange run, HostProtection) override {
    ++ThreadHostCalls().protect;
    return {.done_frames = run.size()};
  }
  void NoteWritten(Gfn) override {}
  int fault_around() const override { return 1; }
  GfnRange ReadyAround(Gfn gfn, GfnRange) override { return {gfn, gfn + 1}; }
  void Wake(GfnRange) override { ++ThreadHostCalls().wake; }
  absl::Status Inspect(GfnRange run, absl::Span<HostFrame> frames) override;

  bool TryPin(PinMode mode) {
    return mode == PinMode::kMap ? map_pins_.TryPin() : unmap_pins_.TryPin();
  }

 private:
  void Unpin(bool for_map) override {
    (for_map ? map_pins_ : unmap_pins_).Unpin();
  }

  const GfnRange range_;
  const Pfn base_pfn_;
  const PageLevel max_fault_level_;
  PinCount map_pins_;
  PinCount unmap_pins_;
};

class NullBackingTable final : public BackingTable {
 public:
  explicit NullBackingTable(RcuDomain& rcu) : rcu_(rcu) {}

  // REQUIRES: behind every slot that was added; before anybody pins.
  void Add(GfnRange range, PageLevel max_fault_level = PageLevel::k4K);

  PinResult Pin(Gfn gfn, PinMode mode) override;
  bool NextBacked(Gfn gfn, Gfn* next) override;

 private:
  struct Slot {
    GfnRange range;
    std::unique_ptr<NullBacking> backing;
  };

  // The first slot that ends behind `gfn`.
  std::vector<Slot>::const_iterator FindSlot(Gfn gfn) const;

  RcuDomain& rcu_;
  std::vector<Slot> slots_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_NULL_BACKING_H_
