#include "server/overload/overload_gate.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

constexpr int64_t kPlenty = 1'000'000;
constexpr int64_t kMillisecond = 1'000'000;

std::string MetadataOf(const absl::Status& status, absl::string_view key) {
  const auto detail = DetailOf(status);
  if (!detail.has_value() || detail->reason != ErrorReason::kLimitReached) {
    return absl::StrCat("not LIMIT_REACHED: ", status.ToString());
  }
  for (const auto& [name, value] : detail->metadata) {
    if (name == key) return value;
  }
  return "";
}
std::string LimitOf(const absl::Status& status) {
  return status.ok() ? "ok" : MetadataOf(status, "limit");
}

class OverloadGateTest : public testing::Test {
 protected:
  static OverloadOptions Generous() {
    return {.max_calls_per_client = kPlenty,
            .max_calls = kPlenty,
            .max_streams_per_client = kPlenty,
            .max_streams = kPlenty,
            .max_calls_without_role = kPlenty,
            .max_streams_without_role = kPlenty,
            .guaranteed_calls_per_client = 0,
            .guaranteed_streams_per_client = 0,
            .max_frames_per_second_per_client = 1000,
            .max_frames_per_second = kPlenty,
            .work_burst_seconds = 2,
            .max_unsent_bytes_per_client = kPlenty};
  }

  // A call of a client, which has entered or not.
  struct TestCall {
    CallContext context;
    absl::Status entered;
  };
  std::unique_ptr<TestCall> Enter(OverloadGate& gate, uint64_t client,
                                  const MethodTraits& method) {
    auto call = std::make_unique<TestCall>();
    call->context.set_method(&method);
    if (client != 0) {
      call->context.set_peer(std::make_shared<Peer>(
          Peer{.identity = "x", .role = role_, .id = client}));
    }
    grpc::ServerContext transport;
    call->entered = gate.Enter(transport, call->context);
    return call;
  }
  static void Leave(OverloadGate& gate, std::unique_ptr<TestCall> call) {
    if (call->entered.ok()) {
      gate.Leave(call->context, absl::StatusCode::kOk);
    }
  }
  std::string Try(OverloadGate& gate, uint64_t client,
                  const MethodTraits& method) {
    auto call = Enter(gate, client, method);
    std::string limit = LimitOf(call->entered);
    Leave(gate, std::move(call));
    return limit;
  }
  void Work(OverloadGate& gate, uint64_t client, int64_t frames) {
    auto call = Enter(gate, client, unary_);
    ASSERT_TRUE(call->entered.ok()) << call->entered;
    call->context.AddWork(frames);
    Leave(gate, std::move(call));
  }

  const MonotonicClock clock_ = [this] { return now_; };
  int64_t now_ = 1'000'000 * kMillisecond;
  Role role_ = Role::kObserver;  // of the clients that come from now on
  const MethodTraits unary_ = {.name = "Unary", .role = Role::kObserver};
  const MethodTraits health_ = {.name = "Health", .role = Role::kNone};
  const MethodTraits stream_ = {
      .name = "Stream", .role = Role::kObserver, .is_stream = true};
};

TEST_F(OverloadGateTest, AClientMayHaveSoManyCallsUnderWayAndNotOneMore) {
  OverloadOptions options = Generous();
  options.max_calls_per_client = 2;
  OverloadGate gate(options, clock_);
  auto first = Enter(gate, 1, unary_);
  auto second = Enter(gate, 1, health_);
  EXPECT_TRUE(first->entered.ok());
  EXPECT_TRUE(second->entered.ok());
  const auto third = Enter(gate, 1, unary_);
  EXPECT_EQ(LimitOf(third->entered), "max_calls_per_client");
  EXPECT_EQ(MetadataOf(third->entered, "value"), "2");
  EXPECT_EQ(MetadataOf(third->entered, "retryDelayMs"), "100");
  EXPECT_EQ(Try(gate, 1, health_), "max_calls_per_client")
      << "health counts among the calls";
  EXPECT_EQ(Try(gate, 2, unary_), "ok") << "another client has its own";
  Leave(gate, std::move(first));
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
  Leave(gate, std::move(second));
  EXPECT_EQ(gate.load().calls, 0);
}

TEST_F(OverloadGateTest, AllClientsTogetherMayHaveSoManyCalls) {
  OverloadOptions options = Generous();
  options.max_calls = 2;
  OverloadGate gate(options, clock_);
  auto first = Enter(gate, 1, unary_);
  auto second = Enter(gate, 2, unary_);
  EXPECT_TRUE(second->entered.ok());
  EXPECT_EQ(Try(gate, 3, unary_), "max_calls");
  Leave(gate, std::move(first));
  EXPECT_EQ(Try(gate, 3, unary_), "ok");
  Leave(gate, std::move(second));
}

TEST_F(OverloadGateTest, StreamsAreCountedApart) {
  OverloadOptions options = Generous();
  options.max_streams_per_client = 1;
  options.max_streams = 2;
  OverloadGate gate(options, clock_);
  auto first = Enter(gate, 1, stream_);
  EXPECT_TRUE(first->entered.ok());
  EXPECT_EQ(Try(gate, 1, stream_), "max_streams_per_client");
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
  auto second = Enter(gate, 2, stream_);
  EXPECT_TRUE(second->entered.ok());
  EXPECT_EQ(Try(gate, 3, stream_), "max_streams");
  EXPECT_EQ(gate.load().streams, 2);
  Leave(gate, std::move(first));
  EXPECT_EQ(Try(gate, 3, stream_), "ok");
  Leave(gate, std::move(second));
  EXPECT_EQ(gate.load().streams, 0);
}

TEST_F(OverloadGateTest, AClientInDebtIsRefusedUntilItsDebtIsPaidOff) {
  OverloadGate gate(Generous(),
                    clock_);  // 1,000 frames a second, 2,000 at once
  Work(gate, 1, 2000);
  EXPECT_EQ(Try(gate, 1, unary_), "ok") << "the burst is not exceeded";
  Work(gate, 1, 1500);
  const auto refused = Enter(gate, 1, unary_);
  EXPECT_EQ(LimitOf(refused->entered), "max_frames_per_second_per_client");
  EXPECT_EQ(MetadataOf(refused->entered, "value"), "1000");
  EXPECT_EQ(MetadataOf(refused->entered, "retryDelayMs"), "1500");
  EXPECT_EQ(Try(gate, 2, unary_), "ok");
  now_ += 1499 * kMillisecond;
  EXPECT_EQ(Try(gate, 1, unary_), "max_frames_per_second_per_client");
  now_ += kMillisecond;
  EXPECT_EQ(Try(gate, 1, unary_), "ok") << "the delay was what it takes";
}

TEST_F(OverloadGateTest, WhoIsIdleSavesUpOneBurstAndNoMore) {
  OverloadGate gate(Generous(), clock_);
  Work(gate, 1, 1);
  now_ += 3'600'000 * kMillisecond;
  Work(gate, 1, 2001);
  EXPECT_EQ(Try(gate, 1, unary_), "max_frames_per_second_per_client");
}

TEST_F(OverloadGateTest, HealthIsAnsweredToAClientInDebt) {
  OverloadGate gate(Generous(), clock_);
  Work(gate, 1, 5000);
  EXPECT_EQ(Try(gate, 1, unary_), "max_frames_per_second_per_client");
  EXPECT_EQ(Try(gate, 1, health_), "ok");
}

TEST_F(OverloadGateTest, AStreamPaysWhileItGoesOn) {
  OverloadGate gate(Generous(), clock_);
  auto stream = Enter(gate, 1, stream_);
  stream->context.AddWork(2500);
  EXPECT_EQ(Try(gate, 1, unary_), "max_frames_per_second_per_client");
  now_ += 500 * kMillisecond;
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
  stream->context.AddWork(1000);
  EXPECT_EQ(Try(gate, 1, unary_), "max_frames_per_second_per_client");
  Leave(gate, std::move(stream));
}

TEST_F(OverloadGateTest,
       WhenAllAreInDebtOnlyThoseWaitThatHadMoreThanTheirPart) {
  OverloadOptions options = Generous();
  options.max_frames_per_second = 2000;  // 4,000 at once
  OverloadGate gate(options, clock_);
  for (uint64_t client = 1; client <= 3; ++client) Work(gate, client, 100);
  now_ += 200 * kMillisecond;  // they are three, and owe nothing
  for (uint64_t client = 1; client <= 2; ++client) Work(gate, client, 2000);
  EXPECT_EQ(Try(gate, 1, unary_), "ok") << "all of them are not in debt";
  Work(gate, 3, 200);
  const auto refused = Enter(gate, 1, unary_);
  EXPECT_EQ(LimitOf(refused->entered), "max_frames_per_second");
  EXPECT_EQ(MetadataOf(refused->entered, "value"), "2000");
  EXPECT_EQ(MetadataOf(refused->entered, "retryDelayMs"), "100")
      << "200 frames of debt at 2,000 a second";
  EXPECT_EQ(Try(gate, 2, unary_), "max_frames_per_second");
  EXPECT_EQ(Try(gate, 3, unary_), "ok") << "had less than its third";
  EXPECT_EQ(Try(gate, 4, unary_), "ok") << "has just come";
  now_ += 100 * kMillisecond;
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
}

TEST_F(OverloadGateTest, TheDebtOfOneClientIsNoOthers) {
  OverloadOptions options = Generous();
  options.max_frames_per_second = 1000;
  OverloadGate gate(options, clock_);
  Work(gate, 2, 1);
  Work(gate, 1, int64_t{1} << 36);
  const auto refused = Enter(gate, 1, unary_);
  EXPECT_EQ(LimitOf(refused->entered), "max_frames_per_second_per_client");
  EXPECT_EQ(MetadataOf(refused->entered, "retryDelayMs"), "2000")
      << "nobody waits for longer than a burst takes";
  EXPECT_EQ(Try(gate, 2, unary_), "ok");
  EXPECT_EQ(Try(gate, 3, unary_), "ok");
}

TEST_F(OverloadGateTest, ACallUnderWayCanAskForTheDebtOfItsClient) {
  OverloadGate gate(Generous(), clock_);
  auto stream = Enter(gate, 1, stream_);
  auto other = Enter(gate, 2, stream_);
  PeerUsage& usage = *stream->context.usage();
  stream->context.AddWork(2000);
  EXPECT_TRUE(usage.CheckWork().ok());
  usage.AddWork(-5);
  stream->context.AddWork(1);
  EXPECT_EQ(LimitOf(usage.CheckWork()), "max_frames_per_second_per_client");
  EXPECT_EQ(MetadataOf(usage.CheckWork(), "retryDelayMs"), "1");
  EXPECT_TRUE(other->context.usage()->CheckWork().ok());
  now_ += kMillisecond;
  EXPECT_TRUE(usage.CheckWork().ok());
  EXPECT_TRUE(PeerUsage().CheckWork().ok()) << "without a gate";
  Leave(gate, std::move(stream));
  Leave(gate, std::move(other));
}

TEST_F(OverloadGateTest, WhoHasNoRoleMayHaveFewCallsAndFewerStreams) {
  OverloadGate gate(OverloadOptions(), clock_);
  const MethodTraits watch = {
      .name = "Watch", .role = Role::kNone, .is_stream = true};
  role_ = Role::kNone;
  for (const uint64_t client : {0, 1}) {
    std::vector<std::unique_ptr<TestCall>> calls;
    const auto expect_room = [&](const MethodTraits& method) {
      calls.push_back(Enter(gate, client, method));
      ASSERT_TRUE(calls.back()->entered.ok()) << calls.back()->entered;
    };
    for (int i = 0; i < limits::kMaxStreamsWithoutRole; ++i) expect_room(watch);
    EXPECT_EQ(Try(gate, client, watch), "max_streams_without_role");
    while (calls.size() < limits::kMaxCallsWithoutRole) expect_room(health_);
    EXPECT_EQ(Try(gate, client, health_), "max_calls_without_role");
    for (auto& call : calls) Leave(gate, std::move(call));
  }
}

TEST_F(OverloadGateTest, AFewCallsAndStreamsAreEveryClientsOwn) {
  OverloadOptions options;
  options.max_calls = 100;
  options.max_streams = 50;
  OverloadGate gate(options, clock_);
  std::vector<std::unique_ptr<TestCall>> calls;
  for (int i = 0; i < 100; ++i) {
    calls.push_back(Enter(gate, 1, i < 50 ? stream_ : unary_));
    ASSERT_TRUE(calls.back()->entered.ok());
  }
  EXPECT_EQ(Try(gate, 1, unary_), "max_calls");
  for (int i = 0; i < limits::kGuaranteedStreamsPerClient - 1; ++i) {
    calls.push_back(Enter(gate, 2, stream_));
    ASSERT_TRUE(calls.back()->entered.ok());
  }
  EXPECT_EQ(Try(gate, 2, unary_), "ok");
  calls.push_back(Enter(gate, 2, stream_));
  ASSERT_TRUE(calls.back()->entered.ok());
  EXPECT_EQ(Try(gate, 2, unary_), "max_calls") << "it has sixteen";
  EXPECT_EQ(Try(gate, 2, stream_), "max_calls");
  role_ = Role::kNone;
  EXPECT_EQ(Try(gate, 3, stream_), "max_calls");
  EXPECT_EQ(Try(gate, 3, health_), "ok");
  for (auto& call : calls) Leave(gate, std::move(call));
}

TEST_F(OverloadGateTest, AFewStreamsAreEveryClientsOwn) {
  OverloadOptions options;
  options.max_streams = 1;
  OverloadGate gate(options, clock_);
  std::vector<std::unique_ptr<TestCall>> calls;
  for (const uint64_t client : {1, 2}) {
    for (int i = 0; i < limits::kGuaranteedStreamsPerClient; ++i) {
      calls.push_back(Enter(gate, client, stream_));
      ASSERT_TRUE(calls.back()->entered.ok());
    }
    EXPECT_EQ(Try(gate, client, stream_), "max_streams");
  }
  role_ = Role::kNone;
  EXPECT_EQ(Try(gate, 3, stream_), "max_streams");
  for (auto& call : calls) Leave(gate, std::move(call));
}

TEST_F(OverloadGateTest, WhoDoesNotReadGetsNoMoreToRead) {
  OverloadOptions options = Generous();
  options.max_unsent_bytes_per_client = 100;
  OverloadGate gate(options, clock_);
  auto call = Enter(gate, 1, unary_);
  call->context.usage()->AddUnsent(99);
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
  EXPECT_TRUE(call->context.CheckRoom().ok());
  call->context.usage()->AddUnsent(1);
  EXPECT_EQ(Try(gate, 1, unary_), "max_unsent_bytes_per_client");
  EXPECT_EQ(LimitOf(call->context.CheckRoom()), "max_unsent_bytes_per_client")
      << "also for a call that is in already";
  EXPECT_EQ(Try(gate, 2, unary_), "ok");
  call->context.usage()->AddUnsent(-100);
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
  Leave(gate, std::move(call));
}

TEST_F(OverloadGateTest, ThoseThatNobodyToldApartAreOneClient) {
  OverloadOptions options = Generous();
  options.max_calls_per_client = 1;
  OverloadGate gate(options, clock_);
  auto call = Enter(gate, 0, unary_);
  EXPECT_EQ(Try(gate, 0, unary_), "max_calls_per_client");
  EXPECT_EQ(Try(gate, 1, unary_), "ok");
  Leave(gate, std::move(call));
}

TEST_F(OverloadGateTest, ForgetsClientsThatOweNothing) {
  OverloadGate gate(Generous(), clock_);
  auto busy = Enter(gate, 1, unary_);
  Work(gate, 2, 2500);
  for (uint64_t client = 3; client < 2000; ++client) {
    ASSERT_EQ(Try(gate, client, unary_), "ok");
  }
  EXPECT_LT(gate.load().clients, 300u);
  EXPECT_EQ(Try(gate, 2, unary_), "max_frames_per_second_per_client")
      << "a debt is not forgotten";
  Leave(gate, std::move(busy));
  EXPECT_EQ(gate.load().calls, 0);
}

TEST_F(OverloadGateTest, AHandlerThatOutlivesItsCallMayStillReport) {
  auto gate = std::make_unique<OverloadGate>(Generous(), clock_);
  auto call = Enter(*gate, 1, unary_);
  gate->Leave(call->context, absl::StatusCode::kCancelled);
  for (uint64_t client = 2; client < 1000; ++client) {
    Try(*gate, client, unary_);
  }
  EXPECT_LT(gate->load().clients, 999u);
  call->context.AddWork(1);
}

// What an orchestrator does on an idle node, at once.
TEST_F(OverloadGateTest, DefaultsLetOneBusyClientWork) {
  OverloadGate gate(OverloadOptions(), clock_);
  constexpr int64_t kFramesOf1TiB = int64_t{1} << 28;
  Work(gate, 1, kFramesOf1TiB);
  Work(gate, 1, kFramesOf1TiB / 16);
  std::vector<std::unique_ptr<TestCall>> calls;
  for (int i = 0; i < 1024; ++i) {
    calls.push_back(Enter(gate, 1, i % 2 == 0 ? unary_ : stream_));
    ASSERT_TRUE(calls.back()->entered.ok()) << calls.back()->entered;
  }
  for (auto& call : calls) Leave(gate, std::move(call));
}

TEST_F(OverloadGateTest, ReportsEveryLimitByTheNameThatRefusalsUse) {
  OverloadOptions options = Generous();
  options.max_calls_per_client = 77;
  const OverloadGate gate(options, clock_);
  std::vector<std::string> names;
  for (const auto& [name, value] : gate.limits()) {
    names.push_back(name);
    if (name == "max_calls_per_client") {
      EXPECT_EQ(value, 77);
    }
  }
  EXPECT_EQ(
      names,
      (std::vector<std::string>{
          "max_calls_per_client", "max_calls", "max_streams_per_client",
          "max_streams", "max_calls_without_role", "max_streams_without_role",
          "guaranteed_calls_per_client", "guaranteed_streams_per_client",
          "max_frames_per_second_per_client", "max_frames_per_second",
          "work_burst_seconds", "max_unsent_bytes_per_client"}));
}

}  // namespace
}  // namespace tdp::server
