// Verbs against each other, in threads. Each test first runs its threads' work
// one after the other, so that what fails there is no race.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

class TdpMmuRaceTest : public TdpMmuTest {
 protected:
  static constexpr uint64_t kSeed = 20240;
  using Work = std::function<void(uint64_t seed, int turns)>;

  void RunWithoutThreadsFirst(const std::vector<Work>& works, int turns) {
    for (size_t i = 0; i < works.size(); ++i) works[i](kSeed + i, turns / 20);
    ExpectConsistent(HostMustBe::kEqual);
    SlowHost();
    std::vector<std::thread> threads;
    for (size_t i = 0; i < works.size(); ++i) {
      threads.emplace_back(works[i], kSeed + i, turns);
    }
    for (std::thread& thread : threads) thread.join();
    ExpectConsistent(HostMustBe::kEqual);
  }

  // Touches random frames of a range as a vCPU.
  Work Toucher(uint64_t start, uint64_t end, bool write) {
    return [=, this](uint64_t seed, int turns) {
      FakeVcpu vcpu(mmu(), backings_);
      std::mt19937_64 random(seed);
      for (int i = 0; i < turns; ++i) {
        const uint64_t gfn = start + random() % (end - start);
        ASSERT_EQ(vcpu.Touch(Gfn(gfn), write), TouchResult::kDone)
            << "seed " << seed << ", turn " << i << ", frame " << gfn;
      }
    };
  }
  // Maps or zaps random pieces of a range.
  Work Mapper(uint64_t start, uint64_t end, MapOptions options) {
    return Ranger(start, end, [=, this](uint64_t from, uint64_t to) {
      return Map(from, to, options);
    });
  }
  Work Zapper(uint64_t start, uint64_t end) {
    return Ranger(start, end,
                  [this](uint64_t from, uint64_t to) { return Zap(from, to); });
  }

 private:
  Work Ranger(uint64_t start, uint64_t end,
              std::function<MmuProgress(uint64_t, uint64_t)> verb) {
    return [=](uint64_t seed, int turns) {
      std::mt19937_64 random(seed);
      for (int i = 0; i < turns; ++i) {
        const uint64_t from = start + random() % (end - start);
        const uint64_t to = std::min(end, from + 1 + random() % (2 * kBlock));
        const MmuProgress progress = verb(from, to);
        ASSERT_TRUE(progress.status.ok())
            << progress.status << ", seed " << seed << ", turn " << i;
        ASSERT_GE(progress.next_gfn, Gfn(to));
      }
    };
  }
};

TEST_F(TdpMmuRaceTest, MapsOfTheSameFramesMapEachOfThemOnce) {
  AddSlot(50, 4 * kBlock);
  Start();
  constexpr uint64_t kEnd = 50 + 4 * kBlock;
  RunWithoutThreadsFirst({Mapper(50, kEnd, {.write = true}),
                          Mapper(50, kEnd, {.max_level = PageLevel::k4K}),
                          Mapper(50, kEnd, {.write = false})},
                         300);
  // Concurrent maps together count every frame once.
  ZapAll();
  std::atomic<int64_t> changed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back(
        [&] { changed += MapWritable(50, kEnd).changed_frames; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(changed.load(), static_cast<int64_t>(4 * kBlock));
}

TEST_F(TdpMmuRaceTest, MapsAndZapsOfTheSameFrames) {
  AddSlot(0, 3 * kBlock);
  AddSlot(3 * kBlock, kBlock, PageLevel::k4K, /*writable=*/false);
  Start();
  RunWithoutThreadsFirst({Mapper(0, 4 * kBlock, {.write = true}),
                          Mapper(0, 4 * kBlock, {}), Zapper(0, 4 * kBlock)},
                         400);
}

TEST_F(TdpMmuRaceTest, FaultsMapsAndZapsLoseNoWakeup) {
  AddSlot(7, 2 * kBlock, PageLevel::k2M);
  AddSlot(7 + 2 * kBlock, kBlock);
  Start();
  constexpr uint64_t kEnd = 7 + 3 * kBlock;
  RunWithoutThreadsFirst({Toucher(7, kEnd, true), Toucher(7, kEnd, false),
                          Zapper(7, kEnd), Mapper(7, kEnd, {.write = false})},
                         600);
}

TEST_F(TdpMmuRaceTest, AHugeLeafOverAnEmptyTableAgainstFaultsInIt) {
  AddSlot(0, kBlock);
  Start();
  // Zaps leave an empty table; the map wants to replace it by a huge leaf
  // while faults put small leaves into it.
  RunWithoutThreadsFirst({Toucher(0, kBlock, true), Toucher(0, kBlock, false),
                          [this](uint64_t, int turns) {
                            for (int i = 0; i < turns; ++i) {
                              ASSERT_TRUE(Zap(0, kBlock).status.ok());
                              ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
                              ASSERT_TRUE(Zap(0, kBlock).status.ok());
                            }
                          }},
                         1000);
}

TEST_F(TdpMmuRaceTest, ASplitAgainstFaultsWalksAndZaps) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, giant, PageLevel::k2M);
  Start();
  for (int turn = 0; turn < 3; ++turn) {
    InstallGiantLeaf(slot, Gfn(0), /*writable=*/false);
    std::vector<std::thread> threads;
    for (const Work& work :
         {Toucher(0, 4 * kBlock, true), Toucher(0, 4 * kBlock, false),
          Zapper(0, 4 * kBlock)}) {
      threads.emplace_back(work, kSeed + turn, 30);
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(Leaves(PageLevel::k1G), 0);
    EXPECT_TRUE(slot.Grants(Gfn(giant - 1), false)) << "never touched";
    ZapAll();
  }
}

TEST_F(TdpMmuRaceTest, AMemslotThatClosesAgainstMapsAndFaults) {
  FakeBacking& slot = AddSlot(0, kBlock);
  AddSlot(kBlock, kBlock);
  Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      FakeVcpu vcpu(mmu(), backings_);
      std::mt19937_64 random(kSeed + i);
      while (!stop.load()) {
        const TouchResult result =
            vcpu.Touch(Gfn(random() % (2 * kBlock)), true);
        ASSERT_TRUE(result == TouchResult::kDone ||
                    result == TouchResult::kUnbacked)
            << static_cast<int>(result);
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop.load()) {
      const MmuProgress progress = MapWritable(0, 2 * kBlock);
      if (progress.status.ok()) continue;
      const ErrorReason reason = DetailOf(progress.status)->reason;
      ASSERT_TRUE(reason == ErrorReason::kOperationConflict ||
                  reason == ErrorReason::kGfnNotBacked)
          << progress.status;
    }
  });
  for (int turn = 0; turn < 200; ++turn) {
    slot.CloseForMap();
    ASSERT_TRUE(Zap(0, kBlock).status.ok());
    // No map pin is left and none is given: the memslot stays empty.
    for (uint64_t gfn = 0; gfn < kBlock; ++gfn) {
      ASSERT_FALSE(slot.At(Gfn(gfn)).present) << gfn;
    }
    if (turn % 2 == 0) {
      slot.CloseForUnmap();
      slot.set_gone(true);
      sched_yield();
      slot.set_gone(false);
      slot.ReopenForUnmap();
    }
    slot.ReopenForMap();
    sched_yield();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

TEST_F(TdpMmuRaceTest, EverythingAtOnceWithFailingHostCalls) {
  AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  AllowStricterHost();
  std::atomic<bool> fail{true};
  host().set_hook([&](const HostCall& call) {
    if (!fail.load() || call.number % 7 != 0) return HostFailure{};
    const auto part = static_cast<uint64_t>(call.number % 64);
    return HostFailure{call.number % 2 == 0 ? EAGAIN : EFAULT, part, part / 2};
  });
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      FakeVcpu vcpu(mmu(), backings_);
      std::mt19937_64 random(kSeed + i);
      for (int turn = 0; turn < 800; ++turn) {
        const uint64_t start = random() % (2 * kBlock);
        const uint64_t end =
            std::min(2 * kBlock, start + 1 + random() % kBlock);
        switch (random() % 6) {
          case 0:
            Zap(start, end);
            break;
          case 1:
            Map(start, end, {.write = random() % 2 == 0});
            break;
          case 2:
            ASSERT_TRUE(mmu().InvalidateRoots().ok());
            (void)mmu().ZapInvalidatedRoots();
            break;
          default:
            ASSERT_NE(vcpu.Touch(Gfn(start), random() % 2 == 0),
                      TouchResult::kLostWakeup)
                << "seed " << kSeed + i << ", turn " << turn;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  fail.store(false);
  ExpectConsistent(HostMustBe::kEqualOrStricter);
}

}  // namespace
}  // namespace tdp::testing
