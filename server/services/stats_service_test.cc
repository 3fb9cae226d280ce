// StatsHandler against the fake.

#include "server/services/stats_service.h"

#include <atomic>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

using Kind = StreamStep::Kind;

absl::Time SampleTime(const v1::WatchVmStatsResponse& message) {
  return absl::FromUnixSeconds(message.stats().sample_time().seconds()) +
         absl::Nanoseconds(message.stats().sample_time().nanos());
}

class StatsServiceTest : public testing::Test {
 protected:
  absl::Status Watch(int64_t interval_ns) {
    context_.set_waker([this] { ++wakes_; });
    v1::WatchVmStatsRequest request;
    request.set_vm("vms/a");
    request.mutable_interval()->set_seconds(interval_ns / 1'000'000'000);
    request.mutable_interval()->set_nanos(
        static_cast<int32_t>(interval_ns % 1'000'000'000));
    return Watch(request);
  }
  absl::Status Watch(const v1::WatchVmStatsRequest& request) {
    auto source = handler_.WatchVmStats(context_, request);
    if (source.ok()) source_ = *std::move(source);
    return source.status();
  }
  absl::StatusOr<StreamStep> Next() {
    message_.Clear();
    return source_->Next(context_, &message_);
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  CallContext context_;
  StatsHandler handler_{registry_};
  std::unique_ptr<StreamSource<v1::WatchVmStatsResponse>> source_;
  v1::WatchVmStatsResponse message_;
  std::atomic<int> wakes_ = 0;
};

TEST_F(StatsServiceTest, TakesIntervalsFromTheLeastToTheMostAndNoOthers) {
  EXPECT_TRUE(Watch(10'000'000).ok());
  EXPECT_TRUE(Watch(3'600'000'000'000).ok());
  for (const int64_t bad : {int64_t{9'999'000}, int64_t{9'999'999}, int64_t{0},
                            int64_t{-1}, int64_t{3'600'000'000'001}}) {
    EXPECT_EQ(FieldErrorOf(Watch(bad)), "FIELD_INVALID interval") << bad;
  }
  v1::WatchVmStatsRequest request;
  request.set_vm("vms/a");
  request.mutable_interval()->set_nanos(2'000'000'000);
  EXPECT_EQ(FieldErrorOf(Watch(request)), "FIELD_INVALID interval");
}

TEST_F(StatsServiceTest, WatchesEverySecondUnlessTold) {
  v1::WatchVmStatsRequest request;
  request.set_vm("vms/a");
  ASSERT_TRUE(Watch(request).ok());
  const absl::Time before = absl::Now();
  ASSERT_EQ(Next()->kind, Kind::kSend);
  const absl::StatusOr<StreamStep> step = Next();
  ASSERT_EQ(step->kind, Kind::kPark);
  EXPECT_GT(step->wake_time, before);
  EXPECT_LE(step->wake_time, before + absl::Seconds(1));
}

TEST_F(StatsServiceTest, NeedsAVm) {
  EXPECT_EQ(FieldErrorOf(Watch(v1::WatchVmStatsRequest())), "FIELD_INVALID vm");
  v1::WatchVmStatsRequest request;
  request.set_vm("vms/none");
  EXPECT_EQ(ReasonOf(Watch(request)), "RESOURCE_NOT_FOUND");
}

TEST_F(StatsServiceTest, SamplesAtMultiplesOfTheIntervalWithoutDrift) {
  constexpr absl::Duration kInterval = absl::Milliseconds(10);
  ASSERT_TRUE(Watch(absl::ToInt64Nanoseconds(kInterval)).ok());
  ASSERT_EQ(Next()->kind, Kind::kSend);
  const absl::StatusOr<StreamStep> first = Next();
  ASSERT_EQ(first->kind, Kind::kPark);
  absl::Time due = first->wake_time;
  for (int i = 0; i < 20; ++i) {
    // Always late, by more each time.
    absl::SleepFor(due - absl::Now() + absl::Milliseconds(i));
    ASSERT_EQ(Next()->kind, Kind::kSend);
    EXPECT_GE(SampleTime(message_), due);
    const absl::StatusOr<StreamStep> step = Next();
    if (step->kind == Kind::kSend) {
      --i;  // a slow machine: an interval has passed between the two
      due = absl::Now();
      continue;
    }
    EXPECT_EQ((step->wake_time - first->wake_time) % kInterval,
              absl::ZeroDuration());
    due = step->wake_time;
  }
}

TEST_F(StatsServiceTest, SkipsWhatASlowReaderMissed) {
  ASSERT_TRUE(Watch(10'000'000).ok());
  ASSERT_EQ(Next()->kind, Kind::kSend);
  absl::SleepFor(absl::Milliseconds(200));
  ASSERT_EQ(Next()->kind, Kind::kSend);
  // Twenty are due. One comes, and the next is not due yet: two only if this
  // thread did not run in between.
  int sent = 1;
  while (Next()->kind == Kind::kSend) ++sent;
  EXPECT_LT(sent, 20);
}

TEST_F(StatsServiceTest, EndsWithTheVm) {
  ASSERT_TRUE(Watch(3'600'000'000'000).ok());
  ASSERT_EQ(Next()->kind, Kind::kSend);
  ASSERT_EQ(Next()->kind, Kind::kPark);
  EXPECT_EQ(wakes_, 0);
  ASSERT_TRUE(registry_.DeleteVm("a", "").ok());
  EXPECT_GT(wakes_, 0);
  EXPECT_EQ(Next()->kind, Kind::kEnd);
}

TEST_F(StatsServiceTest, EndsWhenTheDaemonDrains) {
  std::atomic<bool> draining = false;
  context_.set_draining(&draining);
  ASSERT_TRUE(Watch(3'600'000'000'000).ok());
  ASSERT_EQ(Next()->kind, Kind::kSend);
  draining = true;
  EXPECT_EQ(ReasonOf(Next().status()), "DRAINING");
}

TEST_F(StatsServiceTest, LetsGoOfTheVmWhenItEnds) {
  ASSERT_TRUE(Watch(10'000'000).ok());
  EXPECT_EQ(fake_->ListenerCountForTest(), 1);
  source_.reset();
  EXPECT_EQ(fake_->ListenerCountForTest(), 0);
}

}  // namespace
}  // namespace tdp::server
