// Unary calls, errors, deadlines and draining.

#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "grpcpp/generic/generic_stub.h"
#include "server/rpc/rpc_server_fixture.h"

namespace tdp::server {
namespace {

TEST_P(RpcServerTest, AnswersShortAndLongCalls) {
  Start();
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(CallShort(absl::StrCat("vms/", i)).ok());
    grpc::ClientContext context;
    EXPECT_TRUE(CallLong(&context).ok());
  }
}

TEST_P(RpcServerTest, AnswersManyCallersAtOnce) {
  Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 200; ++i) EXPECT_TRUE(CallShort().ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(RpcServerTest, CarriesAnErrorWithItsDetail) {
  handlers_.on_short = [](CallContext&) { return NotFoundError("vms/a"); };
  Start();
  const grpc::Status status = CallShort();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(status.error_message().find("vms/a"), std::string::npos);
  EXPECT_EQ(ReasonOf(status), "RESOURCE_NOT_FOUND");
}

TEST_P(RpcServerTest, TellsHandlersTheMethodAndTheDeadline) {
  std::string method;
  absl::Time deadline;
  handlers_.on_long = [&](CallContext& context) {
    method = context.method().name;
    deadline = context.deadline();
    return absl::OkStatus();
  };
  Start();
  grpc::ClientContext with_deadline;
  with_deadline.set_deadline(absl::ToChronoTime(absl::Now() + absl::Hours(1)));
  ASSERT_TRUE(CallLong(&with_deadline).ok());
  EXPECT_EQ(method, "VmService.StartVm");
  EXPECT_GT(deadline, absl::Now() + absl::Minutes(50));
  EXPECT_LT(deadline, absl::Now() + absl::Minutes(70));
  grpc::ClientContext without;
  ASSERT_TRUE(CallLong(&without).ok());
  EXPECT_GT(deadline, absl::Now() + absl::Seconds(20));
  EXPECT_LE(deadline, absl::Now() + absl::Seconds(30));
}

TEST_P(RpcServerTest, EndsACallWithoutDeadlineAfterTheDefault) {
  absl::Notification release;
  handlers_.on_long = [&](CallContext& context) {
    release.WaitForNotification();
    EXPECT_TRUE(context.cancelled());
    return absl::OkStatus();
  };
  Start({.default_deadline = absl::Milliseconds(50)});
  grpc::ClientContext context;
  const grpc::Status status = CallLong(&context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(ReasonOf(status), "DEADLINE_PASSED");
  // The handler comes to an end later, and nothing happens.
  EXPECT_TRUE(CallShort().ok());
  release.Notify();
  executor_->Shutdown();
}

TEST_P(RpcServerTest, EndsACallWhoseDeadlinePassesInTheQueue) {
  absl::Notification started;
  absl::Notification release;
  std::atomic<int> ran = 0;
  handlers_.on_long = [&](CallContext&) {
    if (++ran == 1) {
      started.Notify();
      release.WaitForNotification();
    }
    return absl::OkStatus();
  };
  Start({.default_deadline = absl::Milliseconds(100)}, {.thread_count = 1});
  std::thread first([&] {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
    EXPECT_TRUE(CallLong(&context).ok());
  });
  started.WaitForNotification();
  grpc::ClientContext context;
  const grpc::Status status = CallLong(&context);
  EXPECT_EQ(ReasonOf(status), "DEADLINE_PASSED");
  release.Notify();
  first.join();
  server_->WaitUntilIdle(absl::InfiniteFuture());
  executor_->Shutdown();
  EXPECT_EQ(ran, 1) << "the queued call must not have run";
}

TEST_P(RpcServerTest, RefusesWorkThatTheExecutorCannotQueue) {
  std::atomic<int> ran = 0;
  handlers_.on_long = [&](CallContext&) {
    ++ran;
    return absl::OkStatus();
  };
  Start({}, {.thread_count = 1, .max_queued = 0});
  grpc::ClientContext context;
  const grpc::Status status = CallLong(&context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(status), "LIMIT_REACHED");
  EXPECT_EQ(ran, 0);
  EXPECT_EQ(ReasonOf(CallShort("long")), "LIMIT_REACHED");
  EXPECT_TRUE(CallShort("short").ok());
}

TEST_P(RpcServerTest, ShowsAHandlerThatItsCallerGaveUp) {
  absl::Notification started;
  absl::Notification noticed;
  handlers_.on_long = [&](CallContext& context) {
    started.Notify();
    while (!context.cancelled()) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(absl::IsCancelled(context.CheckAlive()));
    noticed.Notify();
    return absl::OkStatus();
  };
  Start();
  grpc::ClientContext context;
  std::thread caller([&] {
    EXPECT_EQ(CallLong(&context).error_code(), grpc::StatusCode::CANCELLED);
  });
  started.WaitForNotification();
  context.TryCancel();
  caller.join();
  noticed.WaitForNotification();
}

TEST_P(RpcServerTest, LetsAHandlerAnswerLaterAndOnlyOnce) {
  Reply kept;
  absl::Notification called;
  handlers_.on_deferred = [&](CallContext&, Reply reply) {
    kept = std::move(reply);
    called.Notify();
  };
  Start();
  std::thread later([&] {
    called.WaitForNotification();
    kept(absl::OkStatus());
    kept(InternalError("must be ignored"));
    kept = nullptr;
  });
  grpc::ClientContext context;
  v1::StopVmResponse response;
  EXPECT_TRUE(vms_->StopVm(&context, v1::StopVmRequest(), &response).ok());
  later.join();
}

TEST_P(RpcServerTest, EndsADeferredCallWhoseReplyNeverComes) {
  handlers_.on_deferred = [](CallContext&, const Reply&) {};
  Start({.default_deadline = absl::Milliseconds(30)});
  grpc::ClientContext context;
  v1::StopVmResponse response;
  EXPECT_EQ(ReasonOf(vms_->StopVm(&context, v1::StopVmRequest(), &response)),
            "DEADLINE_PASSED");
}

TEST_P(RpcServerTest, NamesAMethodThatIsNotServedYet) {
  Start();
  grpc::ClientContext context;
  v1::DeleteVmResponse response;
  const grpc::Status status =
      vms_->DeleteVm(&context, v1::DeleteVmRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(ReasonOf(status), "NOT_IMPLEMENTED");
  EXPECT_NE(status.error_message().find("VmService.DeleteVm"),
            std::string::npos);
}

TEST_P(RpcServerTest, NamesAMethodThatDoesNotExist) {
  Start();
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const grpc::ByteBuffer request;
  auto call = stub.PrepareUnaryCall(&context, "/tdp.v1.VmService/FlyVm",
                                    request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_NE(status.error_message().find("/tdp.v1.VmService/FlyVm"),
            std::string::npos)
      << status.error_message();
  queue.Shutdown();
  EXPECT_FALSE(queue.Next(&tag, &ok));
}

TEST_P(RpcServerTest, RefusesAMessageOverTheLimitWithASentence) {
  Start({.max_request_bytes = 1000});
  const grpc::Status status = CallShort(std::string(2000, 'x'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("1000"), std::string::npos)
      << status.error_message();
  EXPECT_TRUE(CallShort(std::string(900, 'x')).ok());
}

TEST_P(RpcServerTest, RefusesACompressedMessageInsteadOfInflatingIt) {
  Start({.max_request_bytes = 1 << 16});
  for (const auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    v1::GetVmRequest request;
    // Within the limit as it is sent, and far over it as it is meant.
    request.set_name(std::string(size_t{1} << 22, 'x'));
    v1::GetVmResponse response;
    const grpc::Status status = vms_->GetVm(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED)
        << status.error_message();
  }
  EXPECT_TRUE(CallShort().ok()) << "the connection lives";
}

TEST_P(RpcServerTest, HoldsBackCallsOverTheLimitOfAConnection) {
  handlers_.on_event =
      [](CallContext&, v1::WatchEventsResponse*) -> absl::StatusOr<StreamStep> {
    return StreamStep::Park();
  };
  Start({.max_streams_per_connection = 3});
  EXPECT_TRUE(CallShort().ok()) << "gRPC has learnt the limit";
  grpc::ClientContext contexts[2];
  auto first = events_->WatchEvents(&contexts[0], v1::WatchEventsRequest());
  auto second = events_->WatchEvents(&contexts[1], v1::WatchEventsRequest());
  while (handlers_.alive < 2) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(CallShort().ok()) << "the third at a time";
  grpc::ClientContext third_context;
  auto third = events_->WatchEvents(&third_context, v1::WatchEventsRequest());
  while (handlers_.alive < 3) absl::SleepFor(absl::Milliseconds(1));
  grpc::ClientContext waiting;
  waiting.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(1)));
  v1::GetVmResponse response;
  EXPECT_EQ(vms_->GetVm(&waiting, v1::GetVmRequest(), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  third_context.TryCancel();
  third->Finish();
  EXPECT_TRUE(CallShort().ok());
  contexts[0].TryCancel();
  contexts[1].TryCancel();
  first->Finish();
  second->Finish();
}

TEST_P(RpcServerTest, DrainsByRefusingNewCallsAndFinishingOldOnes) {
  absl::Notification started;
  absl::Notification release;
  handlers_.on_long = [&](CallContext& context) {
    started.Notify();
    release.WaitForNotification();
    EXPECT_TRUE(context.draining());
    return absl::OkStatus();
  };
  Start();
  std::thread caller([&] {
    grpc::ClientContext context;
    EXPECT_TRUE(CallLong(&context).ok());
  });
  started.WaitForNotification();
  server_->BeginDrain();
  const grpc::Status refused = CallShort();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused), "DRAINING");
  {
    grpc::ClientContext context;
    v1::ListVmsResponse response;
    EXPECT_TRUE(vms_->ListVms(&context, v1::ListVmsRequest(), &response).ok())
        << "a method may ask to be served while draining";
  }
  EXPECT_FALSE(server_->WaitUntilIdle(absl::Now() + absl::Milliseconds(20)));
  release.Notify();
  EXPECT_TRUE(server_->WaitUntilIdle(absl::InfiniteFuture()));
  caller.join();
}

TEST_P(RpcServerTest, DrainsStreamsThatWait) {
  std::atomic<int> asked = 0;
  handlers_.on_event =
      [&](CallContext& context,
          v1::WatchEventsResponse*) -> absl::StatusOr<StreamStep> {
    if (context.draining()) return DrainingError();
    ++asked;
    return StreamStep::Park();
  };
  Start();
  grpc::ClientContext event_context;
  auto events = events_->WatchEvents(&event_context, v1::WatchEventsRequest());
  grpc::ClientContext operation_context;
  auto operations = mmu_->StreamOperations(&operation_context);
  ASSERT_TRUE(operations->Write(v1::StreamOperationsRequest()));
  v1::StreamOperationsResponse response;
  ASSERT_TRUE(operations->Read(&response));
  while (asked == 0) absl::SleepFor(absl::Milliseconds(1));

  server_->BeginDrain();
  EXPECT_TRUE(server_->WaitUntilIdle(absl::InfiniteFuture()));
  EXPECT_EQ(ReasonOf(events->Finish()), "DRAINING");
  EXPECT_EQ(ReasonOf(operations->Finish()), "DRAINING");
}

TEST_P(RpcServerTest, ShutdownEndsWhatStillRunsWithAReason) {
  absl::Notification started;
  handlers_.on_long = [&](CallContext& context) {
    started.Notify();
    while (!context.cancelled()) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(absl::IsUnavailable(context.CheckAlive()));
    return absl::OkStatus();
  };
  handlers_.on_deferred = [](CallContext&, const Reply&) {};
  handlers_.on_event = [&](CallContext&, v1::WatchEventsResponse*)
      -> absl::StatusOr<StreamStep> { return StreamStep::Park(); };
  Start({}, {.thread_count = 4});
  std::thread running([&] {
    grpc::ClientContext context;
    EXPECT_EQ(ReasonOf(CallLong(&context)), "DRAINING");
  });
  std::thread deferred([&] {
    grpc::ClientContext context;
    v1::StopVmResponse response;
    EXPECT_EQ(ReasonOf(vms_->StopVm(&context, v1::StopVmRequest(), &response)),
              "DRAINING");
  });
  grpc::ClientContext event_context;
  auto events = events_->WatchEvents(&event_context, v1::WatchEventsRequest());
  grpc::ClientContext write_context;
  v1::WriteGuestMemoryResponse response;
  auto writes = memory_->WriteGuestMemory(&write_context, &response);
  ASSERT_TRUE(writes->Write(v1::WriteGuestMemoryRequest()));
  grpc::ClientContext operation_context;
  auto operations = mmu_->StreamOperations(&operation_context);
  ASSERT_TRUE(operations->Write(v1::StreamOperationsRequest()));
  started.WaitForNotification();
  while (server_->active_count() < 5) absl::SleepFor(absl::Milliseconds(1));
  server_->Shutdown();
  running.join();
  deferred.join();
  EXPECT_EQ(ReasonOf(events->Finish()), "DRAINING");
  EXPECT_EQ(ReasonOf(writes->Finish()), "DRAINING");
  v1::StreamOperationsResponse answer;
  while (operations->Read(&answer)) {
  }
  EXPECT_EQ(ReasonOf(operations->Finish()), "DRAINING");
}

TEST_P(RpcServerTest, ShutdownDoesNotWaitForAClientThatDoesNotRead) {
  handlers_.on_event =
      [&](CallContext&,
          v1::WatchEventsResponse* message) -> absl::StatusOr<StreamStep> {
    message->add_events()->mutable_vcpu_exited()->set_reason(
        std::string(1 << 20, 'x'));
    return StreamStep::Send();
  };
  Start();
  grpc::ClientContext context;
  auto events = events_->WatchEvents(&context, v1::WatchEventsRequest());
  while (handlers_.alive == 0) absl::SleepFor(absl::Milliseconds(1));
  server_->Shutdown();
  EXPECT_EQ(handlers_.alive, 0);
  v1::WatchEventsResponse message;
  while (events->Read(&message)) {
  }
  EXPECT_FALSE(events->Finish().ok());
}

TEST_P(RpcServerTest, NamesAnAddressThatCannotBeUsed) {
  executor_ = std::make_unique<Executor>(Executor::Options());
  RpcServer server({}, *executor_);
  const absl::Status status = server.Start(
      {{"unix:/nonexistent-folder/socket", grpc::InsecureServerCredentials()}});
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nonexistent-folder/socket"),
            absl::string_view::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, RpcServerTest,
    testing::Values(Param{RunOn::kPoller, 1}, Param{RunOn::kExecutor, 1},
                    Param{RunOn::kExecutor, 2}),
    [](const testing::TestParamInfo<Param>& info) {
      return absl::StrCat(
          info.param.streams_on == RunOn::kPoller ? "InPlace" : "OnExecutor",
          info.param.poller_count);
    });

}  // namespace
}  // namespace tdp::server
