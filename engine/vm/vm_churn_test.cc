// Guests write while clients map, zap, walk and audit: what a guest wrote is
// what memory holds, and the tables account for themselves.
//
// Two vCPUs of a KVM guest each write the pass number to every frame of a half
// of memory, in a fixed random order, again and again. One client maps random
// ranges, one zaps random ranges and sometimes everything, one walks and
// audits. At the end each frame holds the number of the present pass or of the
// one before.

#include <atomic>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kHalf = 4096;
constexpr uint64_t kFrames = 2 * kHalf;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr absl::Duration kDuration = absl::Seconds(10);
#else
constexpr absl::Duration kDuration = absl::Seconds(60);
#endif

GfnRange RandomRange(std::mt19937_64& random) {
  const uint64_t start = random() % kFrames;
  const uint64_t size = 1 + random() % 1024;
  return {Gfn(start), Gfn(std::min(kFrames, start + size))};
}

class ChurnTest : public VmTest,
                  public testing::WithParamInterface<HypervisorKind> {};

INSTANTIATE_TEST_SUITE_P(Hypervisors, ChurnTest,
                         testing::Values(HypervisorKind::kKvm,
                                         HypervisorKind::kSoftware),
                         [](const auto& info) {
                           return info.param == HypervisorKind::kKvm
                                      ? "Kvm"
                                      : "Software";
                         });

TEST_P(ChurnTest, GuestBytesSurviveMapZapAndWalk) {
  if (GetParam() == HypervisorKind::kKvm && !HasKvm()) {
    GTEST_SKIP() << "KVM does not work here";
  }
  Vm& vm = CreateVm(GetParam(), 2);
  AddMemslot(vm, "ram", 0, kFrames);
  for (int i = 0; i < 2; ++i) {
    const Gfn start(static_cast<uint64_t>(i) * kHalf);
    ASSERT_OK(
        vm.LoadGuest(i, TouchGuestConfig{.range = {start, start + kHalf},
                                         .pattern = TouchPattern::kShuffled,
                                         .write = true,
                                         .pass_count = -1,
                                         .seed = 7}));
  }
  ASSERT_OK(vm.Start().status());

  // The software hypervisor is the same machinery below the vCPU; a part of
  // the time is enough for it.
  const absl::Time end =
      absl::Now() +
      (GetParam() == HypervisorKind::kKvm ? kDuration : kDuration / 6);
  const auto running = [&] { return absl::Now() < end; };
  std::atomic<int64_t> mapped{0};
  std::atomic<int64_t> zapped{0};
  std::atomic<int64_t> walked{0};
  std::thread mapper([&] {
    std::mt19937_64 random(1);
    while (running()) {
      const auto progress =
          vm.MapRange(RandomRange(random), static_cast<int>(random() % 3),
                      random() % 2 == 0, {});
      ASSERT_TRUE(progress.ok()) << progress.status();
      mapped += progress->changed;
    }
  });
  std::thread zapper([&] {
    std::mt19937_64 random(2);
    for (int i = 0; running(); ++i) {
      if (i % 64 == 63) {
        ASSERT_OK(vm.ZapAll(i % 128 == 127).status());
        continue;
      }
      const auto progress = vm.ZapRange(RandomRange(random), {});
      ASSERT_TRUE(progress.ok()) << progress.status();
      zapped += progress->changed;
    }
  });
  std::thread walker([&] {
    std::mt19937_64 random(3);
    std::vector<SpteView> entries;
    while (running()) {
      const GfnRange range = RandomRange(random);
      entries.clear();
      const auto next = vm.WalkRange(range, {}, 1 << 20, entries);
      ASSERT_TRUE(next.ok()) << next.status();
      for (const SpteView& entry : entries) {
        if (!entry.leaf) continue;
        EXPECT_EQ(entry.access.write && !entry.mmu_writable, false);
      }
      walked += static_cast<int64_t>(entries.size());
      const auto audit = vm.AuditRange(range, 8, {});
      ASSERT_TRUE(audit.ok()) << audit.status();
      if (audit->divergent_frame_count == 0) continue;
      for (const DivergenceView& divergence : audit->divergences) {
        ADD_FAILURE() << "frame " << divergence.gfn.value() << ", entry "
                      << divergence.engine.raw << ", host "
                      << divergence.host_present << divergence.host_writable;
      }
      FAIL() << audit->divergent_frame_count << " divergent frames";
    }
  });
  mapper.join();
  zapper.join();
  walker.join();
  ASSERT_OK(vm.Stop().status());

  EXPECT_GT(mapped, 0);
  EXPECT_GT(zapped, 0);
  EXPECT_GT(walked, 0);
  EXPECT_EQ(vm.Describe().state, VmState::kStopped);
  ExpectBytesOfPasses(vm, 0, {Gfn(0), Gfn(kHalf)});
  ExpectBytesOfPasses(vm, 1, {Gfn(kHalf), Gfn(kFrames)});
  ExpectCleanAudit(vm, WholeRange(vm));
  ASSERT_OK(vm.ZapAll(/*wait=*/true).status());
  const VmStats stats = vm.Stats();
  EXPECT_EQ(stats.page_table_bytes, static_cast<int64_t>(kPageSize));
  EXPECT_EQ(stats.leaf_4k_count + stats.leaf_2m_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

}  // namespace
}  // namespace tdp
