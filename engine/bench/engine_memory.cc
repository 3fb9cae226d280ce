#include "engine/bench/engine_memory.h"

#include <optional>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/limits.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

bool Never() { return false; }

}  // namespace

EngineMemory::EngineMemory(uint64_t frames)
    : range_{Gfn(0), Gfn(frames)},
      rcu_(limits::kMaxRetiredBytes),
      memslots_(rcu_) {
  auto memslot =
      Memslot::Create({.name = "bench",
                       .range = range_,
                       .base_pfn = Pfn(0),
                       .source = std::nullopt,
                       .userfaultfd = {.origin = FaultOrigin::kUserOnly}});
  Must(memslot.status());
  memslot_ = *std::move(memslot);
  Must(memslots_.Add(memslot_));
  auto mmu = TdpMmu::Create(rcu_, memslots_, PageLevel::k512G,
                            limits::kDefaultPageTableLimitBytes);
  Must(mmu.status());
  mmu_ = *std::move(mmu);
  Map(PageLevel::k4K);
  Zap();
}

EngineMemory::~EngineMemory() {
  memslot_->CloseForMap();
  Zap();
  mmu_.reset();
  memslots_.Remove(memslot_);
}

void EngineMemory::Map(PageLevel max_level) {
  const MmuProgress progress =
      mmu_->MapRange(range_, {.max_level = max_level, .write = true}, Never);
  Must(progress.status);
  TDP_CHECK(progress.changed_frames == static_cast<int64_t>(range_.size()),
            "every frame was mapped");
}

int64_t EngineMemory::Zap() {
  const MmuProgress progress = mmu_->ZapRange(range_, Never);
  Must(progress.status);
  return progress.changed_frames;
}

void EngineMemory::DropTables() {
  Must(mmu_->InvalidateRoots().status());
  Must(mmu_->ZapInvalidatedRoots());
  rcu_.Barrier();
}

}  // namespace tdp::bench
