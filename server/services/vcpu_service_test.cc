// VcpuHandler and EventHandler against the fake.

#include "server/services/vcpu_service.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "server/convert/paging.h"
#include "server/services/event_service.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

class VcpuServiceTest : public testing::Test {
 protected:
  ~VcpuServiceTest() override {
    // Waits of the engine call back into the executor.
    executor_.Shutdown();
  }

  // The answer of WaitVcpu and when it came.
  struct Answer {
    absl::Status status;
    v1::Vcpu vcpu;
    absl::Duration after;
  };
  Answer Wait(const std::string& name) {
    const absl::Time start = absl::Now();
    v1::WaitVcpuRequest request;
    request.set_name(name);
    v1::WaitVcpuResponse response;
    absl::Status result;
    absl::Notification answered;
    vcpu_.WaitVcpu(context_, request, &response, [&](absl::Status status) {
      result = status;
      answered.Notify();
    });
    answered.WaitForNotification();
    return {result, response.vcpu(), absl::Now() - start};
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a", 3);
  Executor executor_{{.thread_count = 1}};
  CallContext context_;
  VcpuHandler vcpu_{registry_, executor_};
};

TEST_F(VcpuServiceTest, LoadsAGuestIntoOneOrEveryVcpu) {
  v1::LoadGuestRequest request;
  request.set_name("vms/a/vcpus/-");
  v1::LoadGuestResponse response;
  EXPECT_EQ(FieldErrorOf(vcpu_.LoadGuest(context_, request, &response)),
            "FIELD_INVALID guest");
  request.mutable_guest()->mutable_code()->set_code("\xf4");
  ASSERT_TRUE(vcpu_.LoadGuest(context_, request, &response).ok());
  EXPECT_EQ(std::get<CodeGuestConfig>(fake_->guest_for_test()).code, "\xf4");
  request.set_name("vms/a/vcpus/3");
  EXPECT_EQ(ReasonOf(vcpu_.LoadGuest(context_, request, &response)),
            "RESOURCE_NOT_FOUND");
  request.set_name("vms/a/vcpus/x");
  EXPECT_EQ(FieldErrorOf(vcpu_.LoadGuest(context_, request, &response)),
            "FIELD_INVALID name");
}

TEST_F(VcpuServiceTest, GetsAndListsVcpus) {
  v1::GetVcpuRequest get;
  get.set_name("vms/a/vcpus/2");
  v1::GetVcpuResponse got;
  ASSERT_TRUE(vcpu_.GetVcpu(context_, get, &got).ok());
  EXPECT_EQ(got.vcpu().name(), "vms/a/vcpus/2");
  get.set_name("vms/a/vcpus/-");
  EXPECT_EQ(FieldErrorOf(vcpu_.GetVcpu(context_, get, &got)),
            "FIELD_INVALID name");
  get.set_name("vms/a/vcpus/3");
  EXPECT_EQ(ReasonOf(vcpu_.GetVcpu(context_, get, &got)), "RESOURCE_NOT_FOUND");
  v1::ListVcpusRequest list;
  list.set_parent("vms/a");
  list.set_page_size(2);
  v1::ListVcpusResponse listed;
  ASSERT_TRUE(vcpu_.ListVcpus(context_, list, &listed).ok());
  EXPECT_EQ(listed.vcpus_size(), 2);
  list.set_page_token(listed.next_page_token());
  ASSERT_TRUE(vcpu_.ListVcpus(context_, list, &listed).ok());
  EXPECT_EQ(listed.vcpus(2).name(), "vms/a/vcpus/2");
}

TEST_F(VcpuServiceTest, KeepsPagesOfLongConsolesSmall) {
  fake_ = registry_.MakeVmForTest("b", 64);
  for (int i = 0; i < 64; ++i) {
    fake_->SetConsoleForTest(i, std::string(64 << 10, 'x'));
  }
  v1::ListVcpusRequest list;
  list.set_parent("vms/b");
  list.set_page_size(1000);
  int count = 0;
  do {
    v1::ListVcpusResponse listed;
    ASSERT_TRUE(vcpu_.ListVcpus(context_, list, &listed).ok());
    EXPECT_LT(listed.ByteSizeLong(), 2 * kMaxPageBytes);
    count += listed.vcpus_size();
    list.set_page_token(listed.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_EQ(count, 64);
}

TEST_F(VcpuServiceTest, WaitsForAnExit) {
  context_.set_deadline(absl::Now() + absl::Minutes(5));
  std::thread guest([&] {
    absl::SleepFor(absl::Milliseconds(20));
    fake_->ExitVcpuForTest(1, "HLT");
  });
  const Answer answer = Wait("vms/a/vcpus/1");
  guest.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.vcpu.state(), v1::Vcpu::STATE_EXITED);
  EXPECT_EQ(answer.vcpu.exit_reason(), "HLT");
}

TEST_F(VcpuServiceTest, AnswersWithTheVcpuAsItIsBeforeTheDeadline) {
  context_.set_deadline(absl::Now() + absl::Milliseconds(800));
  const Answer answer = Wait("vms/a/vcpus/0");
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.vcpu.state(), v1::Vcpu::STATE_IDLE);
  EXPECT_GT(answer.after, absl::Milliseconds(600));
}

TEST_F(VcpuServiceTest, StopsWaitingWhenTheCallerIsGoneOrTheDaemonDrains) {
  context_.set_deadline(absl::Now() + absl::Minutes(5));
  std::atomic<bool> draining = true;
  context_.set_draining(&draining);
  EXPECT_EQ(ReasonOf(Wait("vms/a/vcpus/0").status), "DRAINING");
  draining = false;
  context_.Cancel();
  EXPECT_EQ(ReasonOf(Wait("vms/a/vcpus/0").status), "CANCELLED");
}

// A wait that looked from time to time whether it is still wanted would have
// asked the engine again, and would have to do so every few milliseconds.
TEST_F(VcpuServiceTest, AWaitThatIsGivenUpOrDrainedIsOverWithin10Milliseconds) {
  enum class End { kCancel, kCutOff, kDrain };
  for (const End end : {End::kCancel, End::kCutOff, End::kDrain}) {
    absl::Duration best = absl::InfiniteDuration();
    for (int i = 0; i < 5; ++i) {
      CallContext context;
      std::atomic<bool> draining = false;
      context.set_draining(&draining);
      context.set_deadline(absl::Now() + absl::Minutes(5));
      const int64_t before = fake_->WaitCountForTest();
      v1::WaitVcpuRequest request;
      request.set_name("vms/a/vcpus/0");
      v1::WaitVcpuResponse response;
      absl::Status result;
      absl::Notification answered;
      vcpu_.WaitVcpu(context, request, &response, [&](absl::Status status) {
        result = status;
        answered.Notify();
      });
      absl::SleepFor(absl::Milliseconds(50));
      EXPECT_FALSE(answered.HasBeenNotified());
      const absl::Time begin = absl::Now();
      switch (end) {
        case End::kCancel:
          context.Cancel();
          break;
        case End::kCutOff:
          context.CutOff();
          break;
        case End::kDrain:
          draining = true;
          context.NoteDraining();
          break;
      }
      answered.WaitForNotification();
      best = std::min(best, absl::Now() - begin);
      EXPECT_EQ(ReasonOf(result),
                end == End::kCancel ? "CANCELLED" : "DRAINING");
      EXPECT_EQ(fake_->WaitCountForTest(), before + 1);
    }
    // The best of some: what a loaded machine adds is not the wait's.
    EXPECT_LT(best, absl::Milliseconds(10));
  }
}

TEST_F(VcpuServiceTest, WaitsTakeTurnsAsTheirCallersDo) {
  constexpr int kWaits = 5;
  context_.set_deadline(absl::Now() + absl::Minutes(5));
  context_.set_peer(std::make_shared<Peer>(Peer{.identity = "x", .id = 7}));
  absl::Notification started;
  absl::Notification release;
  ASSERT_TRUE(executor_.TryPost([&] {
    started.Notify();
    release.WaitForNotification();
  }));
  started.WaitForNotification();
  v1::WaitVcpuRequest request;
  request.set_name("vms/a/vcpus/1");
  std::vector<v1::WaitVcpuResponse> responses(kWaits);
  std::atomic<int> answered = 0;
  absl::BlockingCounter left(kWaits);
  for (v1::WaitVcpuResponse& response : responses) {
    vcpu_.WaitVcpu(context_, request, &response, [&](const absl::Status&) {
      ++answered;
      left.DecrementCount();
    });
  }
  fake_->ExitVcpuForTest(1, "HLT");
  while (executor_.queued_count() < kWaits) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  int before = -1;
  absl::Notification ran;
  ASSERT_TRUE(executor_.TryPost([&] {
    before = answered;
    ran.Notify();
  }));
  release.Notify();
  ran.WaitForNotification();
  EXPECT_LE(before, 1) << "of five waits of another";
  left.Wait();
}

TEST_F(VcpuServiceTest, RefusesBadWaits) {
  EXPECT_EQ(FieldErrorOf(Wait("vms/a/vcpus/-").status), "FIELD_INVALID name");
  EXPECT_EQ(ReasonOf(Wait("vms/b/vcpus/0").status), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Wait("vms/a/vcpus/9").status), "RESOURCE_NOT_FOUND");
}

class EventServiceTest : public testing::Test {
 protected:
  void Watch(int64_t start, absl::Duration heartbeat = absl::Minutes(5)) {
    EventHandler handler(registry_, heartbeat);
    v1::WatchEventsRequest request;
    request.set_vm("vms/a");
    request.set_start_sequence(start);
    context_.set_waker([this] { ++wakes_; });
    auto source = handler.WatchEvents(context_, request);
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
  }
  absl::StatusOr<StreamStep> Next() {
    message_.Clear();
    return source_->Next(context_, &message_);
  }
  StreamStep::Kind NextKind() { return Next()->kind; }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  CallContext context_;
  std::atomic<int> wakes_ = 0;
  std::unique_ptr<StreamSource<v1::WatchEventsResponse>> source_;
  v1::WatchEventsResponse message_;
};

TEST_F(EventServiceTest, TellsAtOnceThatItWatchesThenSendsWhatHappens) {
  fake_->AddEventForTest(VcpuExitedEvent{0, "HLT"});
  Watch(0);
  ASSERT_EQ(NextKind(), StreamStep::Kind::kSend);
  EXPECT_EQ(message_.events_size(), 0);
  EXPECT_EQ(message_.next_sequence(), 2);
  ASSERT_EQ(NextKind(), StreamStep::Kind::kPark);
  fake_->AddEventForTest(VcpuExitedEvent{0, "SHUTDOWN"});
  EXPECT_EQ(wakes_, 1);
  ASSERT_EQ(NextKind(), StreamStep::Kind::kSend);
  ASSERT_EQ(message_.events_size(), 1);
  EXPECT_EQ(message_.events(0).sequence(), 2);
  EXPECT_EQ(message_.events(0).vcpu_exited().reason(), "SHUTDOWN");
  EXPECT_EQ(message_.next_sequence(), 3);
  EXPECT_EQ(NextKind(), StreamStep::Kind::kPark);
}

TEST_F(EventServiceTest, SendsOldEventsInBatchesWithoutGaps) {
  for (int i = 0; i < 1000; ++i) {
    fake_->AddEventForTest(VcpuExitedEvent{0, "HLT"});
  }
  Watch(1);
  int64_t next = 1;
  while (NextKind() == StreamStep::Kind::kSend) {
    EXPECT_LE(message_.events_size(), 256);
    for (const v1::Event& event : message_.events()) {
      EXPECT_EQ(event.sequence(), next++);
    }
  }
  EXPECT_EQ(next, 1001);
}

TEST_F(EventServiceTest, SendsHeartbeats) {
  Watch(0, absl::Milliseconds(10));
  ASSERT_EQ(NextKind(), StreamStep::Kind::kSend);
  const absl::StatusOr<StreamStep> parked = Next();
  if (parked->kind == StreamStep::Kind::kPark) {
    EXPECT_LE(parked->wake_time, absl::Now() + absl::Milliseconds(10));
  }
  absl::SleepFor(absl::Milliseconds(15));
  ASSERT_EQ(NextKind(), StreamStep::Kind::kSend);
  EXPECT_EQ(message_.events_size(), 0);
  EXPECT_EQ(message_.next_sequence(), 1);
}

TEST_F(EventServiceTest, EndsWithTheVm) {
  Watch(0);
  ASSERT_EQ(NextKind(), StreamStep::Kind::kSend);
  fake_->AddEventForTest(VcpuExitedEvent{0, "HLT"});
  ASSERT_TRUE(registry_.DeleteVm("a", "").ok());
  EXPECT_EQ(NextKind(), StreamStep::Kind::kSend) << "what is left comes first";
  EXPECT_EQ(NextKind(), StreamStep::Kind::kEnd);
}

TEST_F(EventServiceTest, SaysWhenEventsAreNoLongerKept) {
  for (int i = 0; i < 5; ++i) {
    fake_->AddEventForTest(VcpuExitedEvent{0, "HLT"});
  }
  fake_->DropEventsBeforeForTest(4);
  Watch(2);
  EXPECT_EQ(ReasonOf(Next().status()), "EVENTS_TRUNCATED");
}

TEST_F(EventServiceTest, EndsWhenTheDaemonDrains) {
  Watch(0);
  std::atomic<bool> draining = true;
  context_.set_draining(&draining);
  EXPECT_EQ(ReasonOf(Next().status()), "DRAINING");
}

TEST_F(EventServiceTest, ListensOnlyAsLongAsItLives) {
  Watch(0);
  EXPECT_EQ(fake_->ListenerCountForTest(), 1);
  source_.reset();
  EXPECT_EQ(fake_->ListenerCountForTest(), 0);
}

TEST_F(EventServiceTest, RefusesBadRequests) {
  EventHandler handler(registry_);
  v1::WatchEventsRequest request;
  EXPECT_EQ(FieldErrorOf(handler.WatchEvents(context_, request).status()),
            "FIELD_INVALID vm");
  request.set_vm("vms/b");
  EXPECT_EQ(ReasonOf(handler.WatchEvents(context_, request).status()),
            "RESOURCE_NOT_FOUND");
  request.set_vm("vms/a");
  request.set_start_sequence(-1);
  EXPECT_EQ(FieldErrorOf(handler.WatchEvents(context_, request).status()),
            "FIELD_INVALID start_sequence");
  EXPECT_EQ(fake_->ListenerCountForTest(), 0);
}

}  // namespace
}  // namespace tdp::server
