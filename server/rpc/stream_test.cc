// Streams of each kind: their ends, their cancellation, slow readers.

#include <thread>

#include "absl/synchronization/notification.h"
#include "server/rpc/rpc_server_fixture.h"

namespace tdp::server {
namespace {

class StreamTest : public RpcServerTest {};

TEST_P(StreamTest, StreamsUntilTheSourceEnds) {
  std::atomic<int> next = 0;
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse* message) -> absl::StatusOr<StreamStep> {
    if (next == 1000) return StreamStep::End();
    message->set_next_sequence(next++);
    return StreamStep::Send();
  };
  Start();
  grpc::ClientContext context;
  auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse message;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(stream->Read(&message));
    EXPECT_EQ(message.next_sequence(), i);
  }
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_P(StreamTest, EndsAStreamWithTheErrorOfItsSource) {
  int next = 0;
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse*) -> absl::StatusOr<StreamStep> {
    if (next++ == 3) return NotFoundError("vms/a");
    return StreamStep::Send();
  };
  Start();
  grpc::ClientContext context;
  auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse message;
  int count = 0;
  while (stream->Read(&message)) ++count;
  EXPECT_EQ(count, 3);
  EXPECT_EQ(ReasonOf(stream->Finish()), "RESOURCE_NOT_FOUND");
}

TEST_P(StreamTest, EndsAStreamThatCannotBeOpened) {
  Start();
  grpc::ClientContext context;
  v1::WatchEventsRequest request;
  request.set_vm("bad");
  auto stream = events_->WatchEvents(&context, request);
  EXPECT_EQ(ReasonOf(stream->Finish()), "FIELD_INVALID");
}

TEST_P(StreamTest, WakesAParkedStreamFromAnyThread) {
  std::atomic<int> produced = 0;
  std::atomic<int> sent = 0;
  std::atomic<const std::function<void()>*> waker = nullptr;
  handlers_.on_event =
      [&](CallContext& context,
          v1::WatchEventsResponse* message) -> absl::StatusOr<StreamStep> {
    waker = &context.waker();
    if (sent == 500) return StreamStep::End();
    if (sent == produced) return StreamStep::Park();
    message->set_next_sequence(++sent);
    return StreamStep::Send();
  };
  Start();
  grpc::ClientContext context;
  auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
  while (waker == nullptr) absl::SleepFor(absl::Milliseconds(1));
  const std::function<void()> wake = *waker.load();
  std::thread producer([&] {
    for (int i = 0; i < 500; ++i) {
      ++produced;
      wake();
    }
  });
  v1::WatchEventsResponse message;
  int count = 0;
  while (stream->Read(&message)) {
    EXPECT_EQ(message.next_sequence(), ++count);
  }
  EXPECT_EQ(count, 500);
  EXPECT_TRUE(stream->Finish().ok());
  producer.join();
  wake();  // after the end: nothing happens
}

TEST_P(StreamTest, AsksAParkedStreamAgainWhenItsTimeHasCome) {
  int asked = 0;
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse*) -> absl::StatusOr<StreamStep> {
    if (++asked == 4) return StreamStep::End();
    return StreamStep::Park(absl::Now() + absl::Milliseconds(5));
  };
  Start();
  grpc::ClientContext context;
  auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(asked, 4);
}

// A client that goes away: while the stream is parked without a message, and
// after each of the first messages.
TEST_P(StreamTest, LetsGoOfACancelledStreamAtEveryPoint) {
  std::atomic<int> wanted = 0;
  std::atomic<int> sent = 0;
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse*) -> absl::StatusOr<StreamStep> {
    if (sent == wanted) return StreamStep::Park();
    ++sent;
    return StreamStep::Send();
  };
  Start();
  for (int messages = 0; messages < 6; ++messages) {
    SCOPED_TRACE(messages);
    wanted = messages;
    sent = 0;
    grpc::ClientContext context;
    auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
    v1::WatchEventsResponse message;
    for (int i = 0; i < messages; ++i) ASSERT_TRUE(stream->Read(&message));
    while (handlers_.alive == 0) absl::SleepFor(absl::Milliseconds(1));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
    server_->WaitUntilIdle(absl::InfiniteFuture());
    EXPECT_EQ(handlers_.alive, 0);
  }
}

TEST_P(StreamTest, LetsGoOfStreamsThatAreCancelledAtAnyMoment) {
  handlers_.on_event = [&](CallContext&, v1::WatchEventsResponse*)
      -> absl::StatusOr<StreamStep> { return StreamStep::Send(); };
  Start();
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
    absl::SleepFor(absl::Microseconds(7 * i));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(CallShort().ok());
}

TEST_P(StreamTest, HoldsBackTheStreamOfASlowReader) {
  std::atomic<int> produced = 0;
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse* message) -> absl::StatusOr<StreamStep> {
    ++produced;
    message->add_events()->mutable_vcpu_exited()->set_reason(
        std::string(100000, 'x'));
    return StreamStep::Send();
  };
  Start();
  grpc::ClientContext context;
  auto stream = events_->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse message;
  ASSERT_TRUE(stream->Read(&message));
  // Nobody reads: what is produced must settle at what the windows hold.
  int before = -1;
  while (before != produced) {
    before = produced;
    absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_LT(produced, 500);
  // The write that is under way is given up when the client goes.
  context.TryCancel();
  stream->Finish();
  server_->WaitUntilIdle(absl::InfiniteFuture());
}

TEST_P(StreamTest, TakesAClientStream) {
  Start();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  auto stream = memory_->WriteGuestMemory(&context, &response);
  v1::WriteGuestMemoryRequest chunk;
  chunk.set_data("1234");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(stream->Write(chunk));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(response.written_bytes(), 400);
}

TEST_P(StreamTest, EndsAClientStreamAtItsFirstError) {
  Start();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  auto stream = memory_->WriteGuestMemory(&context, &response);
  v1::WriteGuestMemoryRequest chunk;
  ASSERT_TRUE(stream->Write(chunk));
  chunk.set_gpa(666);
  stream->Write(chunk);
  EXPECT_EQ(ReasonOf(stream->Finish()), "FIELD_INVALID");
}

TEST_P(StreamTest, LetsGoOfACancelledClientStream) {
  Start();
  for (int messages = 0; messages < 3; ++messages) {
    grpc::ClientContext context;
    v1::WriteGuestMemoryResponse response;
    auto stream = memory_->WriteGuestMemory(&context, &response);
    for (int i = 0; i < messages; ++i) {
      ASSERT_TRUE(stream->Write(v1::WriteGuestMemoryRequest()));
    }
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
    server_->WaitUntilIdle(absl::InfiniteFuture());
    AwaitNoneAlive();
  }
}

TEST_P(StreamTest, AnswersABidiStreamInOrder) {
  Start();
  grpc::ClientContext context;
  auto stream = mmu_->StreamOperations(&context);
  for (int i = 0; i < 50; ++i) {
    v1::StreamOperationsRequest request;
    for (int j = 0; j < i; ++j) request.add_operations();
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  v1::StreamOperationsResponse response;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.results_size(), i);
  }
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_P(StreamTest, HoldsBackABidiStreamWhoseAnswersAreNotRead) {
  Start();
  grpc::ClientContext context;
  auto stream = mmu_->StreamOperations(&context);
  std::atomic<int> written = 0;
  std::thread writer([&] {
    v1::StreamOperationsRequest request;
    for (int i = 0; i < 50000; ++i) request.add_operations();
    while (stream->Write(request)) ++written;
  });
  // Answers are as large as messages: what is taken in must settle at what the
  // windows of both directions hold.
  int before = -1;
  while (before != written) {
    before = written;
    absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_LT(written, 500);
  EXPECT_TRUE(CallShort().ok()) << "the connection serves others";
  context.TryCancel();
  writer.join();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_P(StreamTest, EndsABidiStreamWithAnErrorOrACancellation) {
  Start();
  {
    grpc::ClientContext context;
    auto stream = mmu_->StreamOperations(&context);
    v1::StreamOperationsRequest request;
    request.set_vm("bad");
    stream->Write(request);
    EXPECT_EQ(ReasonOf(stream->Finish()), "FIELD_INVALID");
  }
  for (int messages = 0; messages < 3; ++messages) {
    grpc::ClientContext context;
    auto stream = mmu_->StreamOperations(&context);
    v1::StreamOperationsResponse response;
    for (int i = 0; i < messages; ++i) {
      ASSERT_TRUE(stream->Write(v1::StreamOperationsRequest()));
      ASSERT_TRUE(stream->Read(&response));
    }
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, StreamTest,
    testing::Values(Param{RunOn::kPoller, 1}, Param{RunOn::kExecutor, 1},
                    Param{RunOn::kExecutor, 2}),
    [](const testing::TestParamInfo<Param>& info) {
      return absl::StrCat(
          info.param.streams_on == RunOn::kPoller ? "InPlace" : "OnExecutor",
          info.param.poller_count);
    });

}  // namespace
}  // namespace tdp::server
