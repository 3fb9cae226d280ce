#include "engine/vm/working_set_scanner.h"

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"
#include "engine/sync/mutex.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

// Scans that the test holds up, by a clock that the test moves.
class WorkingSetScannerTest : public testing::Test {
 protected:
  // Long enough for a loaded machine; no test waits for it to pass.
  static constexpr absl::Duration kPatience = absl::Seconds(60);
  static constexpr absl::Duration kInterval = absl::Milliseconds(100);

  absl::StatusOr<WorkingSet> RunScan(absl::Duration start,
                                     WorkingSetScanner::StopCheck stop) {
    EXPECT_EQ(busy_.exchange(true), false) << "two at a time";
    ++begun_;
    while (hold_ && !stop()) std::this_thread::yield();
    busy_ = false;
    ++ended_;
    return WorkingSet{.scan_time = absl::UnixEpoch() + start, .buckets = {}};
  }
  void Advance(absl::Duration time) {
    now_ = now_.load() + time / absl::Milliseconds(1);
  }
  static void Await(const std::function<bool()>& condition) {
    const absl::Time end = absl::Now() + kPatience;
    while (!condition()) {
      ASSERT_LT(absl::Now(), end) << "it does not come";
      std::this_thread::yield();
    }
  }
  int64_t Watch(absl::Duration interval = kInterval) {
    const auto id = scanner_->AddWatcher(interval, [this] { ++wakes_; });
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or(0);
  }

  std::atomic<bool> hold_ = false;
  std::atomic<bool> busy_ = false;
  std::atomic<int> begun_ = 0;
  std::atomic<int> ended_ = 0;
  std::atomic<int> released_ = 0;
  std::atomic<int> wakes_ = 0;
  std::atomic<int64_t> now_ = 1'000'000;  // milliseconds
  std::unique_ptr<WorkingSetScanner> scanner_ =
      std::make_unique<WorkingSetScanner>(WorkingSetScanner::Options{
          .scan =
              [this](absl::Duration start, WorkingSetScanner::StopCheck stop) {
                return RunScan(start, stop);
              },
          .release =
              [this] {
                EXPECT_FALSE(busy_);
                ++released_;
              },
          .now = [this] { return absl::Milliseconds(now_.load()); }});
};

TEST_F(WorkingSetScannerTest, ScansForAWatcherAndReleasesWhenItGoes) {
  const int64_t id = Watch();
  Await([&] { return wakes_ == 1; });
  const auto update = scanner_->Read(id);
  ASSERT_TRUE(update.ok());
  ASSERT_TRUE(update->working_set.has_value());
  EXPECT_EQ(update->working_set->scan_time,
            absl::UnixEpoch() + absl::Milliseconds(now_.load()));
  EXPECT_FALSE(update->closed);
  EXPECT_EQ(released_, 0);
  scanner_->RemoveWatcher(id);
  Await([&] { return released_ == 1; });
  EXPECT_TRUE(scanner_->Read(id)->closed);
}

TEST_F(WorkingSetScannerTest, TwoWatchersShareTheirScans) {
  const int64_t first = Watch();
  Await([&] { return wakes_ == 1; });
  const int64_t second = Watch();
  const auto a = scanner_->Read(first);
  const auto b = scanner_->Read(second);
  ASSERT_TRUE(a->working_set.has_value());
  ASSERT_TRUE(b->working_set.has_value());
  EXPECT_EQ(a->working_set->scan_time, b->working_set->scan_time);
  EXPECT_EQ(begun_, 1);
}

TEST_F(WorkingSetScannerTest, AnEstimateRunsOneScanWithoutAThread) {
  const auto answer = scanner_->Estimate(nullptr);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(begun_, 1);
  EXPECT_EQ(wakes_, 0);
}

TEST_F(WorkingSetScannerTest, AnEstimateJoinsTheScanThatIsUnderWay) {
  hold_ = true;
  Watch();
  Await([&] { return begun_ == 1; });
  // Who asks for the second time whether it is still wanted waits for the scan.
  std::atomic<int> asked[2] = {0, 0};
  const auto estimate = [&](int i) {
    return scanner_->Estimate([&, i] {
      ++asked[i];
      return false;
    });
  };
  auto one = std::async(std::launch::async, estimate, 0);
  auto two = std::async(std::launch::async, estimate, 1);
  Await([&] { return asked[0] >= 2 && asked[1] >= 2; });
  hold_ = false;
  const auto first = one.get();
  const auto second = two.get();
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->scan_time, second->scan_time);
}

TEST_F(WorkingSetScannerTest, AnEstimateWaitsUntilItMayScan) {
  ASSERT_TRUE(scanner_->Estimate(nullptr).ok());
  std::atomic<int> asked = 0;
  auto next = std::async(std::launch::async, [&] {
    return scanner_->Estimate([&] {
      ++asked;
      return false;
    });
  });
  Await([&] { return asked >= 3; });
  EXPECT_EQ(begun_, 1) << "no time has passed";
  Advance(kInterval);
  ASSERT_TRUE(next.get().ok());
  EXPECT_EQ(begun_, 2);
}

TEST_F(WorkingSetScannerTest, ACancelledEstimateEndsItsScan) {
  hold_ = true;
  std::atomic<bool> cancel = false;
  auto estimate = std::async(std::launch::async, [&] {
    return scanner_->Estimate([&] { return cancel.load(); });
  });
  Await([&] { return begun_ == 1; });
  cancel = true;
  const auto answer = estimate.get();
  EXPECT_EQ(DetailOf(answer.status())->reason, ErrorReason::kCancelled);
  // What was broken off is nobody's answer.
  hold_ = false;
  Advance(kInterval);
  ASSERT_TRUE(scanner_->Estimate(nullptr).ok());
  EXPECT_EQ(begun_, 2);
}

TEST_F(WorkingSetScannerTest, WhoJoinedAScanThatIsGivenUpRunsOneItself) {
  hold_ = true;
  std::atomic<bool> cancel = false;
  auto first = std::async(std::launch::async, [&] {
    return scanner_->Estimate([&] { return cancel.load(); });
  });
  Await([&] { return begun_ == 1; });
  std::atomic<int> asked = 0;
  auto second = std::async(std::launch::async, [&] {
    return scanner_->Estimate([&] {
      ++asked;
      return false;
    });
  });
  Await([&] { return asked >= 2; });
  cancel = true;
  EXPECT_FALSE(first.get().ok());
  Advance(kInterval);
  Await([&] { return begun_ == 2; });
  hold_ = false;
  EXPECT_TRUE(second.get().ok());
}

TEST_F(WorkingSetScannerTest, AScanThatIsGivenUpIsFollowedByARest) {
  hold_ = true;
  std::atomic<bool> cancel = false;
  auto given_up = std::async(std::launch::async, [&] {
    return scanner_->Estimate([&] { return cancel.load(); });
  });
  Await([&] { return begun_ == 1; });
  Advance(absl::Seconds(2));
  cancel = true;
  EXPECT_FALSE(given_up.get().ok());
  hold_ = false;
  std::atomic<int> asked = 0;
  auto next = std::async(std::launch::async, [&] {
    return scanner_->Estimate([&] {
      ++asked;
      return false;
    });
  });
  Advance(absl::Milliseconds(1999));
  // Asked twice after that, it has looked at the clock in between.
  const int before = asked;
  Await([&] { return begun_ > 1 || asked >= before + 3; });
  EXPECT_EQ(begun_, 1) << "as long as the scan took";
  Advance(absl::Milliseconds(1));
  EXPECT_TRUE(next.get().ok());
  EXPECT_EQ(begun_, 2);
}

TEST_F(WorkingSetScannerTest, TheLastWatcherThatGoesEndsTheScan) {
  hold_ = true;
  const int64_t id = Watch();
  Await([&] { return begun_ == 1; });
  scanner_->RemoveWatcher(id);
  Await([&] { return ended_ == 1 && released_ == 1; });
  EXPECT_EQ(wakes_, 0);
}

TEST_F(WorkingSetScannerTest, AWatcherThatComesAsTheLastOneGoesIsServed) {
  for (int i = 0; i < 200; ++i) {
    const int64_t old = Watch();
    scanner_->RemoveWatcher(old);
    const int64_t id = Watch();
    const absl::Time end = absl::Now() + kPatience;
    while (!scanner_->Read(id)->working_set.has_value()) {
      ASSERT_LT(absl::Now(), end) << "forgotten in round " << i;
      Advance(absl::Milliseconds(1));
      std::this_thread::yield();
    }
    scanner_->RemoveWatcher(id);
    Advance(kInterval);
  }
}

TEST_F(WorkingSetScannerTest, WhatAnEstimateKeepsIsReleasedAfterAnHour) {
  EXPECT_TRUE(scanner_->ReleaseIfUnused()) << "there is nothing";
  ASSERT_TRUE(scanner_->Estimate(nullptr).ok());
  EXPECT_FALSE(scanner_->ReleaseIfUnused());
  Advance(absl::Minutes(59));
  EXPECT_FALSE(scanner_->ReleaseIfUnused());
  EXPECT_EQ(released_, 0);
  Advance(absl::Minutes(1));
  EXPECT_TRUE(scanner_->ReleaseIfUnused());
  EXPECT_EQ(released_, 1);
  EXPECT_TRUE(scanner_->ReleaseIfUnused());
  EXPECT_EQ(released_, 1) << "once";
}

TEST_F(WorkingSetScannerTest, AWatcherThatGoesLeavesWhatAnEstimateKeeps) {
  ASSERT_TRUE(scanner_->Estimate(nullptr).ok());
  const int64_t id = Watch();
  EXPECT_TRUE(scanner_->Read(id)->working_set.has_value())
      << "what the estimate found is new enough";
  scanner_->RemoveWatcher(id);
  Advance(absl::Hours(1));
  EXPECT_TRUE(scanner_->ReleaseIfUnused());
  Await([&] { return released_ == 1; });
}

TEST_F(WorkingSetScannerTest, AWatcherKeepsWhatIsOlderThanAnHour) {
  ASSERT_TRUE(scanner_->Estimate(nullptr).ok());
  const int64_t id = Watch(absl::Hours(1));
  Advance(absl::Hours(1));
  EXPECT_TRUE(scanner_->ReleaseIfUnused());
  EXPECT_EQ(released_, 0);
  scanner_->RemoveWatcher(id);
  Await([&] { return released_ == 1; });
}

TEST_F(WorkingSetScannerTest, StoppingEndsScansAndClosesWatchers) {
  hold_ = true;
  const int64_t id = Watch();
  Await([&] { return begun_ == 1; });
  auto joined = std::async(std::launch::async,
                           [&] { return scanner_->Estimate(nullptr); });
  scanner_->Stop();
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(DetailOf(joined.get().status())->reason, ErrorReason::kCancelled);
  EXPECT_TRUE(scanner_->Read(id)->closed);
  EXPECT_EQ(wakes_, 1);
  scanner_->RemoveWatcher(id);
  EXPECT_TRUE(scanner_->Read(Watch())->closed) << "who comes later";
  EXPECT_FALSE(scanner_->Estimate(nullptr).ok());
  EXPECT_EQ(begun_, 1);
}

TEST_F(WorkingSetScannerTest, AnyNumberComeAskAndGoAtTheSameTime) {
  std::vector<std::thread> threads;
  std::atomic<bool> done = false;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        if (t == 0) {
          EXPECT_TRUE(scanner_->Estimate(nullptr).ok());
        } else {
          const int64_t id = Watch();
          EXPECT_TRUE(scanner_->Read(id).ok());
          scanner_->RemoveWatcher(id);
        }
      }
    });
  }
  std::thread clock([&] {
    while (!done) Advance(absl::Milliseconds(1));
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  clock.join();
  scanner_->Stop();
  EXPECT_EQ(begun_, ended_);
}

}  // namespace
}  // namespace tdp
