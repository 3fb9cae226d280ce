// Client's unary and ranged calls against a fake daemon that refuses, in a time
// that nobody waits for.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/target.h"
#include "client/testing/fake_clock.h"
#include "client/testing/fake_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::Status Error(absl::StatusCode code, const std::string& reason) {
  return DaemonError(code, "because", reason, {});
}

absl::Status Conflict() {
  return WithRetryInfo(Error(absl::StatusCode::kAborted, "OPERATION_CONFLICT"),
                       absl::Milliseconds(100));
}

absl::Status Draining() {
  return WithRetryInfo(Error(absl::StatusCode::kUnavailable, "DRAINING"),
                       absl::Seconds(1));
}

class ClientRetryTest : public testing::Test {
 protected:
  std::unique_ptr<Client> NewClient(ClientOptions options = {}) {
    Target target;
    target.address = server_.target();
    options.clock = time_.Clock();
    auto client = Client::Create(target, options);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  // Lets `method` fail so often, then answer.
  template <typename Request, typename Response>
  void FailTimes(FakeUnary<Request, Response>& method, int times,
                 absl::Status error) {
    left_ = times;
    method.Do([this, error](const Request&, Response&) {
      return left_-- > 0 ? error : absl::OkStatus();
    });
  }

  FakeServer server_;
  FakeClock time_;
  int left_ = 0;
};

TEST_F(ClientRetryTest, ARefusedCallIsMadeAgainUntilItIsTaken) {
  FailTimes(server_.start_vm, 2, Conflict());
  EXPECT_TRUE(NewClient()->StartVm({}).ok());
  EXPECT_THAT(server_.start_vm.requests(), SizeIs(3));
  EXPECT_THAT(time_.waits, ElementsAre(absl::Milliseconds(100 + 50),
                                       absl::Milliseconds(100 + 100)));
}

TEST_F(ClientRetryTest, TriesEnd) {
  server_.start_vm.Fail(Conflict());
  const auto response = NewClient({.retry = {.max_tries = 3}})->StartVm({});
  EXPECT_EQ(ErrorText(response.status()), "ABORTED: because (tried 3 times)");
  EXPECT_THAT(server_.start_vm.requests(), SizeIs(3));
}

TEST_F(ClientRetryTest, OneTryMeansNoRetry) {
  server_.start_vm.Fail(Conflict());
  const auto response = NewClient({.retry = {.max_tries = 1}})->StartVm({});
  EXPECT_EQ(ErrorText(response.status()), "ABORTED: because");
  EXPECT_THAT(server_.start_vm.requests(), SizeIs(1));
  EXPECT_THAT(time_.waits, IsEmpty());
}

TEST_F(ClientRetryTest, ErrorsThatNeedADecisionArePassedOnAtOnce) {
  server_.get_vm.Fail(Error(absl::StatusCode::kNotFound, "RESOURCE_NOT_FOUND"));
  EXPECT_EQ(ErrorText(NewClient()->GetVm({}).status()), "NOT_FOUND: because");
  EXPECT_THAT(server_.get_vm.requests(), SizeIs(1));
}

TEST_F(ClientRetryTest, WhatMayHaveTakenEffectIsNotRepeated) {
  server_.start_vm.Fail(Draining());
  server_.delete_vm.Fail(absl::UnavailableError("Socket closed"));
  server_.age_range.Fail(Draining());
  server_.discard_range.Fail(absl::UnavailableError("Socket closed"));
  server_.get_vm.Fail(Draining());
  const auto client = NewClient();
  EXPECT_FALSE(client->StartVm({}).ok());
  EXPECT_FALSE(client->DeleteVm({}).ok());
  v1::AgeRangeResponse sum;
  EXPECT_FALSE(client->AgeRange({}, &sum).ok());
  EXPECT_FALSE(client->DiscardRange({}).ok());
  EXPECT_THAT(time_.waits, IsEmpty());
  EXPECT_FALSE(client->GetVm({}).ok());
  EXPECT_THAT(server_.start_vm.requests(), SizeIs(1));
  EXPECT_THAT(server_.delete_vm.requests(), SizeIs(1));
  EXPECT_THAT(server_.age_range.requests(), SizeIs(1));
  EXPECT_THAT(server_.discard_range.requests(), SizeIs(1));
  EXPECT_THAT(server_.get_vm.requests(), SizeIs(5));
}

TEST_F(ClientRetryTest, ACreateCallIsRepeatedUnderOneRequestId) {
  FailTimes(server_.create_vm, 2, absl::UnavailableError("Socket closed"));
  FailTimes(server_.create_memslot, 0, absl::OkStatus());
  const auto client = NewClient();
  left_ = 2;
  EXPECT_TRUE(client->CreateVm({}).ok());
  EXPECT_TRUE(client->CreateMemslot({}).ok());
  std::set<std::string> ids;
  for (const auto& request : server_.create_vm.requests()) {
    ids.insert(request.request_id());
  }
  EXPECT_THAT(server_.create_vm.requests(), SizeIs(3));
  EXPECT_THAT(ids, SizeIs(1));
  ids.insert(server_.create_memslot.requests()[0].request_id());
  ids.insert("");
  EXPECT_THAT(ids, SizeIs(3)) << "not empty, and another for each request";
}

TEST_F(ClientRetryTest, ARequestIdOfTheCallersOwnIsKept) {
  server_.create_vm.Return({});
  v1::CreateVmRequest request;
  request.set_request_id("mine");
  EXPECT_TRUE(NewClient()->CreateVm(request).ok());
  EXPECT_EQ(server_.create_vm.requests()[0].request_id(), "mine");
}

TEST_F(ClientRetryTest, TheDeadlineBoundsAllTriesTogether) {
  server_.get_vm.Fail(WithRetryInfo(
      Error(absl::StatusCode::kUnavailable, "DRAINING"), absl::Seconds(40)));
  const auto response = NewClient({.timeout = absl::Seconds(100)})->GetVm({});
  EXPECT_EQ(ErrorText(response.status()),
            "UNAVAILABLE: because (tried 3 times)");
  EXPECT_THAT(time_.waits, SizeIs(2));
  // What the third try had, of 100 s; gRPC may round it.
  EXPECT_LE(server_.last_timeout(), absl::Seconds(21));
}

TEST_F(ClientRetryTest, AUnaryCallHasADeadlineWithoutBeingAskedTo) {
  server_.get_vm.Return({});
  EXPECT_TRUE(NewClient()->GetVm({}).ok());
  EXPECT_LE(server_.last_timeout(), kDefaultTimeout + absl::Seconds(1));
}

TEST_F(ClientRetryTest, AnEndForAllWorkBoundsEachOfItsCalls) {
  server_.get_vm.Fail(WithRetryInfo(
      Error(absl::StatusCode::kUnavailable, "DRAINING"), absl::Seconds(100)));
  const auto client = NewClient({.timeout = absl::Hours(1)});
  const auto bounded = client->WithDeadline(time_.time + absl::Seconds(250));
  EXPECT_FALSE(bounded->GetVm({}).ok());
  EXPECT_THAT(server_.get_vm.requests(), SizeIs(3))
      << "now, after 100 s and after 200 s";
  EXPECT_LE(server_.last_timeout(), absl::Seconds(51));
  EXPECT_FALSE(bounded->WithDeadline(absl::InfiniteFuture())->GetVm({}).ok());
  EXPECT_THAT(server_.get_vm.requests(), SizeIs(4)) << "the earlier end holds";
  server_.get_vm.Return({});
  EXPECT_TRUE(client->GetVm({}).ok()) << "the first client is as it was";
}

TEST_F(ClientRetryTest, ADaemonThatIsNotThereShowsAtOnceUnlessWaitedFor) {
  Target nowhere;
  nowhere.address = "unix:/nonexistent/socket";
  ClientOptions options;
  options.clock = time_.Clock();
  auto client = Client::Create(nowhere, options);
  ASSERT_TRUE(client.ok());
  EXPECT_TRUE(absl::IsUnavailable((*client)->GetInfo().status()));
  EXPECT_THAT(time_.waits, IsEmpty());
  options.retry.wait_for_daemon = true;
  client = Client::Create(nowhere, options);
  ASSERT_TRUE(client.ok());
  const absl::Time start = time_.time;
  EXPECT_TRUE(absl::IsUnavailable((*client)->GetInfo().status()));
  EXPECT_GE(time_.time - start, kDefaultTimeout - absl::Seconds(1))
      << "up to the deadline of the call";
}

TEST_F(ClientRetryTest, ADaemonThatStartsLateIsWaitedFor) {
  // More tries without a daemon than a call has with one; in real time, by
  // which the channel connects.
  constexpr int kWaitsWithoutDaemon = 7;
  int waits = 0;
  ClientOptions options;
  options.retry.wait_for_daemon = true;
  options.clock.sleep = [&](absl::Duration wait) {
    if (++waits == kWaitsWithoutDaemon) server_.Start();
    absl::SleepFor(wait);
  };
  server_.Stop();
  server_.start_vm.Return({});
  Target target;
  target.address = server_.target();
  const auto client = Client::Create(target, options);
  ASSERT_TRUE(client.ok());
  const auto response = (*client)->StartVm({});
  EXPECT_TRUE(response.ok()) << response.status();
  EXPECT_GE(waits, kWaitsWithoutDaemon);
  EXPECT_THAT(server_.start_vm.requests(), SizeIs(1));
}

// Ranged calls: the daemon takes 16 of 80 frames at a time.
class ClientRangeTest : public ClientRetryTest {
 protected:
  static constexpr uint64_t kStep = 16;
  static constexpr uint64_t kEnd = 80;
  static constexpr int kSteps = kEnd / kStep;

  ClientRangeTest() {
    request_.set_vm("vms/a");
    request_.mutable_range()->set_end_gfn(kEnd);
  }

  // The first call at step `broken_step` fails so.
  void BreakAt(int broken_step, absl::Status error) {
    pending_ = 1;
    server_.map_range.Do([=, this](const v1::MapRangeRequest& request,
                                   v1::MapRangeResponse& response) {
      const uint64_t start = request.range().start_gfn();
      if (start == static_cast<uint64_t>(broken_step) * kStep &&
          pending_-- > 0) {
        return error;
      }
      response.set_next_gfn(start + kStep);
      response.set_mapped_frame_count(kStep);
      return absl::OkStatus();
    });
  }

  v1::MapRangeRequest request_;
  int pending_ = 0;
};

TEST_F(ClientRangeTest, AnInterruptionAtAnyStepIsNotSeen) {
  for (int step = 0; step < kSteps; ++step) {
    for (const absl::Status& error :
         {Conflict(), Draining(), absl::UnavailableError("Socket closed")}) {
      const size_t before = server_.map_range.requests().size();
      BreakAt(step, error);
      std::vector<uint64_t> reached;
      const auto response = NewClient()->MapRange(
          request_, [&](uint64_t gfn) { reached.push_back(gfn); });
      ASSERT_TRUE(response.ok()) << step << " " << response.status();
      EXPECT_EQ(response->next_gfn(), kEnd);
      EXPECT_EQ(response->mapped_frame_count(), static_cast<int64_t>(kEnd));
      EXPECT_THAT(reached, ElementsAre(16, 32, 48, 64, 80));
      EXPECT_EQ(server_.map_range.requests().size(), before + kSteps + 1);
    }
  }
}

TEST_F(ClientRangeTest, AnErrorAtAnyStepSaysHowFarTheRangeIsDone) {
  const std::map<int, std::string> done = {{0, ""},
                                           {1, " (0x0..0x10000 is done)"},
                                           {2, " (0x0..0x20000 is done)"},
                                           {3, " (0x0..0x30000 is done)"},
                                           {4, " (0x0..0x40000 is done)"}};
  for (int step = 0; step < kSteps; ++step) {
    BreakAt(step,
            Error(absl::StatusCode::kResourceExhausted, "PAGE_TABLE_LIMIT"));
    const auto response = NewClient()->MapRange(request_);
    EXPECT_EQ(ErrorText(response.status()),
              "RESOURCE_EXHAUSTED: because" + done.at(step));
    EXPECT_EQ(ErrorInfoOf(response.status())->reason(), "PAGE_TABLE_LIMIT");
  }
}

TEST_F(ClientRangeTest, TheTriesOfEachPieceAreCountedByThemselves) {
  // Every piece is refused four times.
  int calls = 0;
  server_.map_range.Do(
      [&](const v1::MapRangeRequest& request, v1::MapRangeResponse& response) {
        if (++calls % 5 != 0) return Conflict();
        response.set_next_gfn(request.range().start_gfn() + kStep);
        return absl::OkStatus();
      });
  EXPECT_TRUE(NewClient()->MapRange(request_).ok());
  EXPECT_EQ(calls, 5 * kSteps);
}

TEST_F(ClientRangeTest, AnEndForAllWorkEndsALoopThatIsStillGoing) {
  // Each piece takes 100 s.
  server_.map_range.Do(
      [&](const v1::MapRangeRequest& request, v1::MapRangeResponse& response) {
        time_.time += absl::Seconds(100);
        response.set_next_gfn(request.range().start_gfn() + kStep);
        return absl::OkStatus();
      });
  const auto response = NewClient({.timeout = absl::Hours(1)})
                            ->WithDeadline(time_.time + absl::Seconds(300))
                            ->MapRange(request_);
  EXPECT_TRUE(absl::IsDeadlineExceeded(response.status())) << response.status();
  EXPECT_THAT(ErrorText(response.status()),
              testing::HasSubstr("(0x0..0x30000 is done)"));
  EXPECT_THAT(server_.map_range.requests(), SizeIs(3));
}

}  // namespace
}  // namespace tdp::client
