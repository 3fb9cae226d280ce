// TdpMmuTest: a fixture with a TdpMmu over fake memslots. After each test it
// checks that tables, counters and host agree, that the one rule was kept, and
// that a zap-all gives everything back.
//
// Thread safety: the fixture's own methods belong to the test's main thread.

#ifndef ENGINE_TESTING_MMU_FIXTURE_H_
#define ENGINE_TESTING_MMU_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/base/errors.h"
#include "engine/mmu/tdp_mmu.h"
#include "engine/testing/fake_backing.h"
#include "engine/testing/spte_matchers.h"
#include "engine/testing/tdp_mmu_peer.h"

namespace tdp::testing {

// Why a call failed. REQUIRES: it did, with an error of engine/base/errors.h.
inline ErrorReason ReasonOf(const absl::Status& status) {
  return DetailOf(status).value().reason;
}

// How exactly the host must follow the entries at rest.
enum class HostMustBe { kEqual, kEqualOrStricter };

class TdpMmuTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
  static constexpr int64_t kTestLimitBytes = int64_t{64} << 20;

  TdpMmuTest() = default;
  // Creates the object under test: before anything else but AddSlot().
  void Start(PageLevel root_level = PageLevel::k512G,
             int64_t page_table_limit_bytes = kTestLimitBytes);
  void TearDown() override;

  FakeBacking& AddSlot(uint64_t start, uint64_t frames,
                       PageLevel max_fault_level = PageLevel::k4K,
                       bool writable = true);
  FakeBacking& AddSlot(const FakeSlotOptions& options) {
    return backings_.Add(options);
  }

  TdpMmu& mmu() { return *mmu_; }
  FakeHost& host() { return backings_.host(); }

  static GfnRange Frames(uint64_t start, uint64_t end) {
    return {Gfn(start), Gfn(end)};
  }
  MmuProgress Map(uint64_t start, uint64_t end, MapOptions options = {});
  MmuProgress MapWritable(uint64_t start, uint64_t end) {
    return Map(start, end, {.write = true});
  }
  MmuProgress Zap(uint64_t start, uint64_t end);
  void ZapAll();
  FaultResult Fault(uint64_t gfn, bool write) {
    return mmu_->HandleFault({Gfn(gfn), write}).result;
  }

  // The last entry on the path to a frame in the valid root.
  WalkedEntry Last(uint64_t gfn) { return mmu_->WalkGfn(Gfn(gfn)).back(); }
  Spte Entry(uint64_t gfn) { return Last(gfn).spte; }
  // Puts a 1G leaf over a memslot that covers it, mapped by the host.
  void InstallGiantLeaf(FakeBacking& slot, Gfn gfn, bool writable);
  int64_t Leaves(PageLevel level);
  std::vector<AuditFinding> Audit();
  // REQUIRES: no other thread is at work.
  void ExpectConsistent(HostMustBe host_must_be);
  // Runs `unlink` while a reader is inside the table that maps a frame, and
  // expects that the reader finds every entry of it FROZEN afterwards, so that
  // nobody who came too late can use the table.
  void ExpectTableFrozenBy(uint64_t gfn, const std::function<void()>& unlink);
  // Makes owners keep their entries FROZEN for longer.
  void SlowHost();
  // The tests in which the host drops mappings say so.
  void AllowStricterHost() { host_at_end_ = HostMustBe::kEqualOrStricter; }

  RcuDomain rcu_{int64_t{64} << 20};
  FakeBackingTable backings_;
  std::unique_ptr<TdpMmu> mmu_;

 private:
  HostMustBe host_at_end_ = HostMustBe::kEqual;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_MMU_FIXTURE_H_
