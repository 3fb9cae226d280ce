// Callers that do not read what they asked for.

#include <memory>
#include <string>

#include "grpcpp/support/async_unary_call.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/rpc_server_fixture.h"

namespace tdp::server {
namespace {

// No window of a connection takes so much; a message of this size is stuck
// until the client reads.
constexpr size_t kStuckBytes = size_t{3} << 20;
// Rounds that a message may stay unread.
constexpr int kRounds = 5;

// All callers are one client.
class UsageGate final : public CallGate {
 public:
  absl::Status Enter(grpc::ServerContext&, CallContext& context) override {
    context.set_usage(usage_);
    return absl::OkStatus();
  }
  void Leave(CallContext&, absl::StatusCode code) override { code_ = code; }

  std::shared_ptr<PeerUsage> usage_ =
      std::make_shared<PeerUsage>(nullptr, kStuckBytes);
  // Of the call that left last.
  std::atomic<absl::StatusCode> code_ = absl::StatusCode::kOk;
};

class SlowReaderTest : public RpcServerTest {
 protected:
  // Callers are to read `bytes_per_round`, at least.
  void StartWithGate(int64_t bytes_per_round = 2 * kStuckBytes) {
    handlers_.on_event =
        [](CallContext&,
           v1::WatchEventsResponse* message) -> absl::StatusOr<StreamStep> {
      message->add_events()->mutable_vcpu_exited()->set_reason(
          std::string(kStuckBytes, 'x'));
      return StreamStep::Send();
    };
    RpcServer::Options options;
    // The test makes the rounds.
    options.max_unread_time = absl::Hours(kRounds - 1);
    options.min_read_bytes_per_second = bytes_per_round / (60 * 60);
    options.gates = {&gate_};
    Start(options);
  }
  // Opens a stream and does not read it.
  std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>> OpenUnread(
      grpc::ClientContext* context) {
    auto stream = events_->WatchEvents(context, v1::WatchEventsRequest());
    AwaitUnsent();
    return stream;
  }
  void AwaitUnsent() {
    while (gate_.usage_->unsent_bytes() == 0) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  void ExpectCutOff(const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_NE(status.error_message().find("STREAM_TOO_SLOW"), std::string::npos)
        << status.error_message();
    EXPECT_TRUE(server_->WaitUntilIdle(absl::InfiniteFuture()));
    EXPECT_EQ(gate_.code_, absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(gate_.usage_->unsent_bytes(), 0);
    EXPECT_TRUE(CallShort().ok()) << "the connection lives";
  }

  UsageGate gate_;
};

TEST_P(SlowReaderTest, AStreamThatNobodyReadsIsCutOffAfterItsTimeNotBefore) {
  StartWithGate();
  grpc::ClientContext context;
  auto stream = OpenUnread(&context);
  for (int i = 0; i < kRounds - 1; ++i) server_->CutOffSlowReaders();
  EXPECT_EQ(handlers_.alive, 1);
  EXPECT_GT(gate_.usage_->unsent_bytes(), 0);
  server_->CutOffSlowReaders();
  // gRPC tells a client how a stream ended once it has read what came before.
  v1::WatchEventsResponse message;
  EXPECT_FALSE(stream->Read(&message)) << "the message is not whole";
  ExpectCutOff(stream->Finish());
}

TEST_P(SlowReaderTest, ALargeMessageHasTheTimeThatItTakesAtTheLeastRate) {
  constexpr int kMoreRounds = 3;
  StartWithGate(kStuckBytes / kMoreRounds);
  grpc::ClientContext slow;
  auto stream = OpenUnread(&slow);
  for (int i = 0; i < kMoreRounds + kRounds - 1; ++i) {
    server_->CutOffSlowReaders();
  }
  // Had it been read at that rate, it would be there, or nearly so.
  v1::WatchEventsResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_GE(message.ByteSizeLong(), kStuckBytes);
  slow.TryCancel();
  stream->Finish();
  EXPECT_TRUE(server_->WaitUntilIdle(absl::InfiniteFuture()));

  grpc::ClientContext slower;
  stream = OpenUnread(&slower);
  for (int i = 0; i < kMoreRounds + kRounds; ++i) server_->CutOffSlowReaders();
  EXPECT_FALSE(stream->Read(&message)) << "the message is not whole";
  ExpectCutOff(stream->Finish());
}

TEST_P(SlowReaderTest, MessagesOfOneClientShareTheTimeThatAllOfThemTake) {
  constexpr int kMoreRounds = 3;
  gate_.usage_ = std::make_shared<PeerUsage>(nullptr, 4 * kStuckBytes);
  StartWithGate(kStuckBytes / kMoreRounds);
  grpc::ClientContext contexts[2];
  auto first = OpenUnread(&contexts[0]);
  auto second = OpenUnread(&contexts[1]);
  while (gate_.usage_->unsent_bytes() < int64_t{2 * kStuckBytes}) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  for (int i = 0; i < 2 * kMoreRounds + kRounds - 1; ++i) {
    server_->CutOffSlowReaders();
  }
  EXPECT_EQ(handlers_.alive, 2);
  server_->CutOffSlowReaders();
  v1::WatchEventsResponse message;
  EXPECT_FALSE(first->Read(&message)) << "the message is not whole";
  EXPECT_FALSE(second->Read(&message)) << "the message is not whole";
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  ExpectCutOff(second->Finish());
}

TEST_P(SlowReaderTest, AnAnswerThatNobodyReadsIsCutOffToo) {
  StartWithGate();
  v1::GetVmRequest request;
  request.set_name(std::string(kStuckBytes, 'x'));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto call = vms_->PrepareAsyncGetVm(&context, request, &queue);
  call->StartCall();
  // Sends the request, and asks for nothing but the headers of the answer.
  call->ReadInitialMetadata(&queue);
  AwaitUnsent();
  for (int i = 0; i < kRounds; ++i) server_->CutOffSlowReaders();
  EXPECT_TRUE(server_->WaitUntilIdle(absl::InfiniteFuture()));
  v1::GetVmResponse response;
  grpc::Status status;
  call->Finish(&response, &status, &status);
  void* tag = nullptr;
  bool ok = false;
  while (tag != &status) ASSERT_TRUE(queue.Next(&tag, &ok));
  ExpectCutOff(status);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

TEST_P(SlowReaderTest, WhoReadsIsNotCutOffHoweverManyRoundsThereAre) {
  StartWithGate();
  std::atomic<bool> reading = true;
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse*) -> absl::StatusOr<StreamStep> {
    return reading ? StreamStep::Park(absl::Now() + absl::Milliseconds(1))
                   : StreamStep::End();
  };
  grpc::ClientContext context;
  auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
  for (int i = 0; i < 100; ++i) server_->CutOffSlowReaders();
  reading = false;
  EXPECT_TRUE(stream->Finish().ok()) << "a stream that is silent is not slow";
}

TEST_P(SlowReaderTest, WhoHoldsTooManyBytesUnreadGetsNoNewAnswers) {
  StartWithGate();
  grpc::ClientContext context;
  auto stream = OpenUnread(&context);
  const grpc::Status refused = CallShort();
  EXPECT_EQ(ReasonOf(refused), "LIMIT_REACHED");
  EXPECT_NE(refused.error_message().find("max_unsent_bytes_per_client"),
            std::string::npos)
      << refused.error_message();
  context.TryCancel();
  stream->Finish();
  server_->WaitUntilIdle(absl::InfiniteFuture());
  EXPECT_TRUE(CallShort().ok());
}

INSTANTIATE_TEST_SUITE_P(All, SlowReaderTest,
                         testing::Values(Param{RunOn::kPoller, 1},
                                         Param{RunOn::kBulk, 1}),
                         [](const testing::TestParamInfo<Param>& info) {
                           return info.param.streams_on == RunOn::kPoller
                                      ? "InPlace"
                                      : "OnExecutor";
                         });

}  // namespace
}  // namespace tdp::server
