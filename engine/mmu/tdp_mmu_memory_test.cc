// What the tables cost in memory over time: nothing is left behind by many
// cycles, and one reader that does not leave holds up no more than it must.
//
// The second test measures a rate. It judges by the time that the storm could
// run, so that a busy machine does not decide; it is run alone all the same.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/backing.h"
#include "engine/base/limits.h"
#include "engine/mmu/tdp_mmu.h"
#include "engine/testing/event.h"

namespace tdp::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
constexpr int kCycles = kSanitized ? 500 : 10'000;
constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
constexpr uint64_t kFrames = uint64_t{16} << (30 - kPageShift);
// One frame in each 512 MiB.
constexpr uint64_t kStride = 256 * kBlock;
constexpr auto kPage = static_cast<int64_t>(kPageSize);

bool Never() { return false; }

// A memslot without a host.
class EmptyBacking final : public Backing, public BackingTable {
 public:
  // Backing.
  GfnRange range() const override { return {Gfn(0), Gfn(kFrames)}; }
  Pfn base_pfn() const override { return Pfn(FramesPerEntry(PageLevel::k1G)); }
  bool writable() const override { return true; }
  bool tracks_writes() const override { return false; }
  PageLevel max_fault_level() const override { return PageLevel::k4K; }
  PageLevel host_page_level() const override { return PageLevel::k4K; }
  absl::Status LoadContent(GfnRange) override { return absl::OkStatus(); }
  HostCallResult Map(GfnRange run, HostProtection) override {
    return {.done_frames = run.size()};
  }
  HostCallResult Unmap(GfnRange run) override {
    return {.done_frames = run.size()};
  }
  HostCallResult Protect(GfnRange run, HostProtection) override {
    return {.done_frames = run.size()};
  }
  void NoteWritten(Gfn) override {}
  int fault_around() const override { return 1; }
  GfnRange ReadyAround(Gfn gfn, GfnRange) override { return {gfn, gfn + 1}; }
  void Wake(GfnRange) override {}
  absl::Status Inspect(GfnRange, absl::Span<HostFrame>) override {
    return absl::OkStatus();
  }

  // BackingTable.
  PinResult Pin(Gfn gfn, PinMode mode) override {
    if (!range().Contains(gfn)) return {};
    return {BackingPin(this, mode == PinMode::kMap), false};
  }
  bool NextBacked(Gfn gfn, Gfn* next) override {
    *next = gfn;
    return range().Contains(gfn);
  }

 private:
  void Unpin(bool) override {}
};

class TdpMmuMemoryTest : public ::testing::Test {
 protected:
  TdpMmuMemoryTest() {
    mmu_ = *TdpMmu::Create(rcu_, backings_, PageLevel::k512G,
                           limits::kDefaultPageTableLimitBytes);
  }
  ~TdpMmuMemoryTest() override { ZapAll(); }

  void MapSparsely(uint64_t offset) {
    for (uint64_t gfn = offset; gfn < kFrames; gfn += kStride) {
      ASSERT_TRUE(mmu_->MapRange({Gfn(gfn), Gfn(gfn + 1)},
                                 {.max_level = PageLevel::k4K, .write = true},
                                 Never)
                      .status.ok());
    }
  }
  void ZapAll() {
    ASSERT_TRUE(mmu_->InvalidateRoots().ok());
    ASSERT_TRUE(mmu_->ZapInvalidatedRoots().ok());
  }
  // Memory of the process, in bytes.
  static int64_t ResidentBytes() {
    long size = 0;
    long resident = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    if (file == nullptr) return 0;
    if (std::fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
    std::fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
  }

  RcuDomain rcu_{limits::kMaxRetiredBytes};
  EmptyBacking backings_;
  std::unique_ptr<TdpMmu> mmu_;
};

TEST_F(TdpMmuMemoryTest, MapsAndZapsOf16GiBLeaveTheTablesWhereTheyWere) {
  // Half of the cycles take the tables away too, half leave them. Each of the
  // first half has its frames elsewhere.
  int64_t warm_resident = 0;
  for (int cycle = 0; cycle < kCycles / 2; ++cycle) {
    MapSparsely(static_cast<uint64_t>(cycle) * 977 % kStride);
    ZapAll();
    if (cycle == kCycles / 20) {
      rcu_.Barrier();
      warm_resident = ResidentBytes();
    }
  }
  rcu_.Barrier();
  EXPECT_EQ(mmu_->page_table_bytes(), kPage);
  EXPECT_EQ(rcu_.retired_bytes(), 0);
  MapSparsely(5);
  const int64_t bytes = mmu_->page_table_bytes();
  EXPECT_EQ(bytes, static_cast<int64_t>(3 + 16 + 32 - 1) * kPage)
      << "one root, one table for 512 GiB, 16 for 1 GiB, 32 of leaves";
  for (int cycle = 0; cycle < kCycles / 2; ++cycle) {
    ASSERT_EQ(mmu_->ZapRange({Gfn(0), Gfn(kFrames)}, Never).changed_frames,
              static_cast<int64_t>(kFrames / kStride));
    MapSparsely(5);
    ASSERT_EQ(mmu_->page_table_bytes(), bytes);
  }
  rcu_.Barrier();
  if (!kSanitized) {
    EXPECT_LT(ResidentBytes() - warm_resident, int64_t{16} << 20)
        << "what hangs on the tables does not pile up either";
  }
}

// Time of this thread in which it ran, slept or waited for others, but not for
// a processor.
class OwnTime {
 public:
  OwnTime() : start_(absl::Now()), delay_(RunDelay()) {}
  absl::Duration Passed() const {
    return absl::Now() - start_ - (RunDelay() - delay_);
  }

 private:
  static absl::Duration RunDelay() {
    unsigned long long ran = 0;
    unsigned long long delay = 0;
    FILE* file = std::fopen("/proc/thread-self/schedstat", "r");
    if (file == nullptr) return absl::ZeroDuration();
    if (std::fscanf(file, "%llu %llu", &ran, &delay) != 2) delay = 0;
    std::fclose(file);
    return absl::Nanoseconds(static_cast<int64_t>(delay));
  }

  const absl::Time start_;
  const absl::Duration delay_;
};

TEST_F(TdpMmuMemoryTest, AParkedReaderHoldsUpNeitherZapsNorMuchMemory) {
  constexpr absl::Duration kParked = absl::Seconds(5);
  constexpr uint64_t kStorm = 64 * kBlock;
  int64_t most_retired = 0;
  // Rounds a second.
  const auto storm = [&](absl::Duration duration) {
    const absl::Time end = absl::Now() + duration;
    const OwnTime time;
    int64_t rounds = 0;
    for (; absl::Now() < end; ++rounds) {
      const GfnRange range = {Gfn(0), Gfn(kStorm)};
      EXPECT_TRUE(mmu_->MapRange(range, {.max_level = PageLevel::k4K}, Never)
                      .status.ok());
      EXPECT_EQ(mmu_->ZapRange(range, Never).changed_frames,
                static_cast<int64_t>(kStorm));
      most_retired = std::max(most_retired, rcu_.retired_bytes());
    }
    return static_cast<double>(rounds) / absl::ToDoubleSeconds(time.Passed());
  };
  const double before = storm(kParked / 2);
  Event parked;
  Event go_on;
  std::thread reader([&] {
    RcuReadGuard rcu(rcu_);
    parked.Set();
    EXPECT_TRUE(go_on.Wait(6 * kParked));
  });
  ASSERT_TRUE(parked.Wait());
  const double meanwhile = storm(kParked);
  // Tables retire at a zap-all; what waits for the reader is bounded.
  EXPECT_LE(most_retired, limits::kMaxRetiredBytes);
  go_on.Set();
  reader.join();
  const double after = storm(kParked / 2);
  EXPECT_GT(meanwhile, std::min(before, after) / 2)
      << before << " before and " << after << " after";
  std::printf("rounds a second: %.0f, parked %.0f, %.0f\n", before, meanwhile,
              after);
}

// The back-pressure: who retires waits, and goes on when the reader leaves.
TEST_F(TdpMmuMemoryTest, ZapAllsUnderAParkedReaderStopAtTheLimit) {
  Event parked;
  Event go_on;
  std::thread reader([&] {
    RcuReadGuard rcu(rcu_);
    parked.Set();
    EXPECT_TRUE(go_on.Wait(absl::Minutes(2)));
  });
  ASSERT_TRUE(parked.Wait());
  std::atomic<bool> stop{false};
  std::atomic<int64_t> rounds{0};
  std::thread storm([&] {
    while (!stop.load()) {
      ASSERT_TRUE(mmu_->MapRange({Gfn(0), Gfn(512 * kBlock)},
                                 {.max_level = PageLevel::k4K}, Never)
                      .status.ok());
      ZapAll();
      ++rounds;
    }
  });
  // It reaches the limit; what one step retires goes beyond.
  while (!rcu_.OverLimit()) absl::SleepFor(absl::Milliseconds(1));
  const int64_t waiting = rounds.load();
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_LE(rounds.load(), waiting + 1) << "the storm waits";
  EXPECT_LT(rcu_.retired_bytes(), limits::kMaxRetiredBytes + (1 << 20));
  stop.store(true);
  go_on.Set();
  reader.join();
  storm.join();
  rcu_.Barrier();
  EXPECT_EQ(rcu_.retired_bytes(), 0);
}

}  // namespace
}  // namespace tdp::testing
