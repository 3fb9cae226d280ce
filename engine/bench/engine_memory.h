// EngineMemory: a real memslot and its page tables, and nobody who serves
// faults.
//
// Thread safety: as TdpMmu; construction and destruction by one thread.

#ifndef ENGINE_BENCH_ENGINE_MEMORY_H_
#define ENGINE_BENCH_ENGINE_MEMORY_H_

#include <cstdint>
#include <memory>

#include "engine/base/types.h"
#include "engine/memory/memslot.h"
#include "engine/memory/memslot_table.h"
#include "engine/mmu/tdp_mmu.h"
#include "engine/sync/rcu.h"

namespace tdp::bench {

class EngineMemory {
 public:
  // Frames [0, frames). Pages and tables are allocated, and nothing is mapped.
  explicit EngineMemory(uint64_t frames);
  // REQUIRES: nobody touches the window.
  ~EngineMemory();
  EngineMemory(const EngineMemory&) = delete;
  EngineMemory& operator=(const EngineMemory&) = delete;

  TdpMmu& mmu() { return *mmu_; }
  const std::shared_ptr<Memslot>& memslot() const { return memslot_; }

  // All frames.
  void Map(PageLevel max_level);
  // How many were mapped.
  int64_t Zap();
  // The tables go as well. REQUIRES: nothing is mapped.
  void DropTables();

 private:
  const GfnRange range_;
  RcuDomain rcu_;
  MemslotTable memslots_;
  std::shared_ptr<Memslot> memslot_;
  std::unique_ptr<TdpMmu> mmu_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_ENGINE_MEMORY_H_
