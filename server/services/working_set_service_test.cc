#include "server/services/working_set_service.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

using Kind = StreamStep::Kind;

class WorkingSetServiceTest : public testing::Test {
 protected:
  ~WorkingSetServiceTest() override {
    // Its last task may still be about to find that no other follows.
    executor_.Shutdown();
  }

  absl::Status Watch(const v1::WatchWorkingSetRequest& request) {
    context_.set_waker([this] { ++wakes_; });
    auto source = handler_.WatchWorkingSet(context_, request);
    if (source.ok()) source_ = *std::move(source);
    return source.status();
  }
  void Watch() {
    v1::WatchWorkingSetRequest request;
    request.set_vm("vms/a");
    const absl::Status status = Watch(request);
    ASSERT_TRUE(status.ok()) << status;
  }
  absl::StatusOr<StreamStep> Next() {
    message_.Clear();
    return source_->Next(context_, &message_);
  }
  Kind NextKind() { return Next()->kind; }
  void Answer(int64_t young) {
    fake_->AnswerWatchersForTest(
        WorkingSet{.scan_time = absl::UnixEpoch(),
                   .buckets = {{absl::ZeroDuration(), young}}});
  }
  int64_t young() const {
    return message_.working_set().buckets(0).frame_count();
  }
  // One call of EstimateWorkingSet.
  struct Estimating {
    void Start(WorkingSetHandler& handler, const std::string& vm) {
      request.set_vm(vm);
      handler.EstimateWorkingSet(context, request, &response,
                                 [this](absl::Status result) {
                                   status = result;
                                   answered.Notify();
                                 });
    }
    int64_t young() {
      answered.WaitForNotification();
      EXPECT_TRUE(status.ok()) << status;
      return status.ok() ? response.working_set().buckets(0).frame_count() : -1;
    }

    CallContext context;
    v1::EstimateWorkingSetRequest request;
    v1::EstimateWorkingSetResponse response;
    absl::Status status;
    absl::Notification answered;
  };
  absl::Status Estimate(const std::string& vm) {
    v1::EstimateWorkingSetRequest request;
    request.set_vm(vm);
    absl::Status result;
    absl::Notification answered;
    handler_.EstimateWorkingSet(context_, request, &estimated_,
                                [&](absl::Status status) {
                                  result = status;
                                  answered.Notify();
                                });
    answered.WaitForNotification();
    return result;
  }
  // Scans of the VM wait for `hold`, and find their number.
  struct HeldScans {
    explicit HeldScans(FakeVm& vm) {
      vm.SetEstimateHookForTest(
          [this](const WorkBudget& budget) -> absl::StatusOr<WorkingSet> {
            const int number = ++begun;
            while (hold) {
              if (budget.cancelled()) {
                hold = false;
                return MakeError(ErrorReason::kCancelled, "given up");
              }
              std::this_thread::yield();
            }
            return WorkingSet{.scan_time = absl::UnixEpoch(),
                              .buckets = {{absl::ZeroDuration(), number}}};
          });
    }
    void AwaitBegun(int count) {
      while (begun < count) std::this_thread::yield();
    }
    std::atomic<bool> hold = true;
    std::atomic<int> begun = 0;
  };
  // As many scans as there may be at a time, of as many VMs.
  struct AllScans {
    explicit AllScans(WorkingSetServiceTest& test) {
      for (size_t i = 0; i < kCount; ++i) {
        const std::string vm = absl::StrCat("busy", i);
        scans[i] =
            std::make_unique<HeldScans>(*test.registry_.MakeVmForTest(vm));
        threads[i] = std::thread(
            [&, i, vm] { calls[i].Start(test.handler_, "vms/" + vm); });
        scans[i]->AwaitBegun(1);
      }
    }
    ~AllScans() {
      for (size_t i = 0; i < kCount; ++i) End(i);
    }
    void End(size_t i) {
      if (!threads[i].joinable()) return;
      scans[i]->hold = false;
      EXPECT_EQ(calls[i].young(), 1);
      threads[i].join();
    }
    static constexpr size_t kCount = WorkingSetHandler::kMaxScans;
    std::unique_ptr<HeldScans> scans[kCount];
    Estimating calls[kCount];
    std::thread threads[kCount];
  };

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  Executor executor_{{.thread_count = 1}};
  WorkingSetHandler handler_{registry_, executor_};
  CallContext context_;
  std::atomic<int> wakes_ = 0;
  std::unique_ptr<StreamSource<v1::WatchWorkingSetResponse>> source_;
  v1::WatchWorkingSetResponse message_;
  v1::EstimateWorkingSetResponse estimated_;
};

TEST_F(WorkingSetServiceTest, EstimatesOnce) {
  ASSERT_TRUE(
      fake_->CreateMemslot("ram", {.base_gfn = Gfn(0), .frame_count = 9}, false)
          .ok());
  ASSERT_TRUE(fake_->MapRange({Gfn(0), Gfn(9)}, 0, true, {}).ok());
  const absl::Status status = Estimate("vms/a");
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GT(estimated_.working_set().scan_time().seconds(), 0);
  ASSERT_EQ(estimated_.working_set().buckets_size(), 2);
  EXPECT_EQ(estimated_.working_set().buckets(0).frame_count(), 9);
}

TEST_F(WorkingSetServiceTest, RefusesBadEstimates) {
  EXPECT_EQ(FieldErrorOf(Estimate("")), "FIELD_INVALID vm");
  EXPECT_EQ(FieldErrorOf(Estimate("vms/a/b")), "FIELD_INVALID vm");
  EXPECT_EQ(ReasonOf(Estimate("vms/b")), "RESOURCE_NOT_FOUND");
}

TEST_F(WorkingSetServiceTest, SaysWhyAnEstimateWasGivenUp) {
  context_.set_deadline(absl::InfinitePast());
  EXPECT_EQ(ReasonOf(Estimate("vms/a")), "DEADLINE_PASSED");
  context_.set_deadline(absl::InfiniteFuture());
  context_.Cancel();
  EXPECT_EQ(ReasonOf(Estimate("vms/a")), "CANCELLED");
}

TEST_F(WorkingSetServiceTest, EstimatesOfOneVmAreAnsweredByOneScan) {
  HeldScans scans(*fake_);
  Estimating first, second, third;
  std::thread runs([&] { first.Start(handler_, "vms/a"); });
  scans.AwaitBegun(1);
  second.Start(handler_, "vms/a");
  third.Start(handler_, "vms/a");
  EXPECT_FALSE(second.answered.HasBeenNotified());
  // Who gives up does not end what others wait for.
  first.context.Cancel();
  scans.hold = false;
  EXPECT_EQ(second.young(), 1);
  EXPECT_EQ(third.young(), 1);
  runs.join();
  EXPECT_EQ(ReasonOf(first.status), "CANCELLED");
  EXPECT_EQ(scans.begun, 1);
}

TEST_F(WorkingSetServiceTest, SomeVmsAreScannedAtATimeAndTheOthersWait) {
  HeldScans scans(*fake_);
  AllScans all(*this);
  Estimating waits;
  waits.Start(handler_, "vms/a");
  EXPECT_EQ(scans.begun, 0);
  all.End(2);
  // On the executor now, beside those that go on.
  scans.AwaitBegun(1);
  EXPECT_FALSE(waits.answered.HasBeenNotified());
  scans.hold = false;
  EXPECT_EQ(waits.young(), 1);
}

TEST_F(WorkingSetServiceTest, WhoGivesUpWhileItWaitsIsAnsweredAsTheNextComes) {
  HeldScans scans(*fake_);
  AllScans all(*this);
  Estimating waiting[100];
  for (Estimating& call : waiting) call.Start(handler_, "vms/a");
  for (Estimating& call : waiting) {
    EXPECT_FALSE(call.answered.HasBeenNotified());
    if (&call != &waiting[7]) call.context.Cancel();
  }
  Estimating next;
  next.Start(handler_, "vms/a");
  for (Estimating& call : waiting) {
    const bool given_up = &call != &waiting[7];
    ASSERT_EQ(call.answered.HasBeenNotified(), given_up);
    if (!given_up) continue;
    EXPECT_EQ(ReasonOf(call.status), "CANCELLED");
  }
  EXPECT_EQ(scans.begun, 0);
  scans.hold = false;
  all.End(0);
  EXPECT_EQ(waiting[7].young(), 1);
  EXPECT_EQ(next.young(), 1);
}

TEST_F(WorkingSetServiceTest, WhoComesAsAScanIsGivenUpGetsOneOfItsOwn) {
  Estimating first, second;
  std::atomic<int> begun = 0;
  // Comes when the engine has seen that nobody wants its scan.
  fake_->SetEstimateHookForTest(
      [&](const WorkBudget& budget) -> absl::StatusOr<WorkingSet> {
        if (++begun > 1) {
          return WorkingSet{.scan_time = absl::UnixEpoch(),
                            .buckets = {{absl::ZeroDuration(), 2}}};
        }
        first.context.Cancel();
        EXPECT_TRUE(budget.cancelled());
        second.Start(handler_, "vms/a");
        return MakeError(ErrorReason::kCancelled, "given up");
      });
  first.Start(handler_, "vms/a");
  EXPECT_EQ(ReasonOf(first.status), "CANCELLED");
  EXPECT_EQ(second.young(), 2);
}

TEST_F(WorkingSetServiceTest, EstimatesThatWaitEndWithTheDaemon) {
  AllScans all(*this);
  Estimating waits;
  waits.Start(handler_, "vms/a");
  executor_.Shutdown();
  all.End(1);
  waits.answered.WaitForNotification();
  EXPECT_EQ(ReasonOf(waits.status), "DRAINING");
  EXPECT_FALSE(all.calls[0].answered.HasBeenNotified()) << "its scan goes on";
}

TEST_F(WorkingSetServiceTest, SendsEachHistogramAsItComes) {
  Watch();
  ASSERT_EQ(NextKind(), Kind::kSend);
  EXPECT_EQ(young(), 0);
  ASSERT_EQ(NextKind(), Kind::kPark);
  for (int i = 1; i <= 3; ++i) {
    Answer(i);
    EXPECT_EQ(wakes_, i);
    ASSERT_EQ(NextKind(), Kind::kSend);
    EXPECT_EQ(young(), i);
    ASSERT_EQ(NextKind(), Kind::kPark);
  }
}

TEST_F(WorkingSetServiceTest, ASlowReaderGetsTheNewestHistogramOnly) {
  Watch();
  for (int i = 1; i <= 1000; ++i) Answer(i);
  ASSERT_EQ(NextKind(), Kind::kSend);
  EXPECT_EQ(young(), 1000);
  EXPECT_EQ(NextKind(), Kind::kPark);
}

TEST_F(WorkingSetServiceTest, WatchesAsOftenAsAskedAndOnceASecondUnlessAsked) {
  Watch();
  EXPECT_EQ(fake_->WatcherIntervalsForTest(),
            std::vector<absl::Duration>{absl::Seconds(1)});
  v1::WatchWorkingSetRequest request;
  request.set_vm("vms/a");
  for (const absl::Duration interval :
       {absl::Milliseconds(100), absl::Hours(1)}) {
    request.mutable_interval()->set_seconds(absl::ToInt64Seconds(interval));
    request.mutable_interval()->set_nanos(static_cast<int32_t>(
        absl::ToInt64Nanoseconds(interval % absl::Seconds(1))));
    source_.reset();
    ASSERT_TRUE(Watch(request).ok());
    EXPECT_EQ(fake_->WatcherIntervalsForTest(),
              std::vector<absl::Duration>{interval});
  }
}

TEST_F(WorkingSetServiceTest, RefusesBadIntervalsAndNames) {
  v1::WatchWorkingSetRequest request;
  EXPECT_EQ(FieldErrorOf(Watch(request)), "FIELD_INVALID vm");
  request.set_vm("vms/b");
  EXPECT_EQ(ReasonOf(Watch(request)), "RESOURCE_NOT_FOUND");
  request.set_vm("vms/a");
  const struct {
    int64_t seconds;
    int32_t nanos;
  } kBad[] = {{0, 0},    {0, 99'999'999},   {-1, 0},
              {3600, 1}, {0, -100'000'000}, {0, 1'000'000'000},
              {1, -1},   {INT64_MAX, 0}};
  for (const auto& [seconds, nanos] : kBad) {
    request.mutable_interval()->set_seconds(seconds);
    request.mutable_interval()->set_nanos(nanos);
    EXPECT_EQ(FieldErrorOf(Watch(request)), "FIELD_INVALID interval")
        << seconds << " s, " << nanos << " ns";
  }
  EXPECT_TRUE(fake_->WatcherIntervalsForTest().empty());
}

TEST_F(WorkingSetServiceTest, AStreamThatEndsWatchesNoLonger) {
  Watch();
  EXPECT_EQ(fake_->WatcherIntervalsForTest().size(), 1u);
  source_.reset();
  EXPECT_TRUE(fake_->WatcherIntervalsForTest().empty());
}

TEST_F(WorkingSetServiceTest, EndsWithTheVm) {
  Watch();
  ASSERT_TRUE(registry_.DeleteVm("a", "").ok());
  EXPECT_EQ(wakes_, 1);
  EXPECT_EQ(NextKind(), Kind::kSend) << "what is left comes first";
  EXPECT_EQ(NextKind(), Kind::kEnd);
}

TEST_F(WorkingSetServiceTest, EndsWhenTheDaemonDrains) {
  Watch();
  ASSERT_EQ(NextKind(), Kind::kSend);
  std::atomic<bool> draining = true;
  context_.set_draining(&draining);
  EXPECT_EQ(ReasonOf(Next().status()), "DRAINING");
}

TEST_F(WorkingSetServiceTest, AScanThatFailsEndsTheStreamWithItsError) {
  Watch();
  ASSERT_EQ(NextKind(), Kind::kSend);
  fake_->AnswerWatchersForTest(HostCallError("mmap", ENOMEM));
  EXPECT_EQ(ReasonOf(Next().status()), "INTERNAL");
}

}  // namespace
}  // namespace tdp::server
