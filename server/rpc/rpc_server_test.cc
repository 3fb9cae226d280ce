// The adapter, against a real gRPC client over a Unix socket. The methods are
// those of the API, the handlers are the test's own.

#include "server/rpc/rpc_server.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tdp/v1/error.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server {
namespace {

using EventSourcePtr =
    absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchEventsResponse>>>;

// A source made of a function; counts how many exist.
class FunctionSource final : public StreamSource<v1::WatchEventsResponse> {
 public:
  using Function = std::function<absl::StatusOr<StreamStep>(
      CallContext&, v1::WatchEventsResponse*)>;
  FunctionSource(Function function, std::atomic<int>* alive)
      : function_(std::move(function)), alive_(alive) {
    ++*alive_;
  }
  ~FunctionSource() override { --*alive_; }
  absl::StatusOr<StreamStep> Next(CallContext& context,
                                  v1::WatchEventsResponse* message) override {
    return function_(context, message);
  }

 private:
  const Function function_;
  std::atomic<int>* const alive_;
};

// Adds up the sizes of chunks; refuses the address 666.
class SumSink final : public StreamSink<v1::WriteGuestMemoryRequest,
                                        v1::WriteGuestMemoryResponse> {
 public:
  explicit SumSink(std::atomic<int>* alive) : alive_(alive) { ++*alive_; }
  ~SumSink() override { --*alive_; }
  absl::Status Take(CallContext&,
                    const v1::WriteGuestMemoryRequest& message) override {
    if (message.gpa() == 666) return FieldError("gpa", "666", "another");
    sum_ += static_cast<int64_t>(message.data().size());
    return absl::OkStatus();
  }
  absl::Status End(CallContext&,
                   v1::WriteGuestMemoryResponse* response) override {
    response->set_written_bytes(sum_);
    return absl::OkStatus();
  }

 private:
  std::atomic<int>* const alive_;
  int64_t sum_ = 0;
};

// Answers each request with as many results as it has operations.
class CountAnswerer final
    : public StreamAnswerer<v1::StreamOperationsRequest,
                            v1::StreamOperationsResponse> {
 public:
  explicit CountAnswerer(std::atomic<int>* alive) : alive_(alive) { ++*alive_; }
  ~CountAnswerer() override { --*alive_; }
  absl::Status Answer(CallContext&, const v1::StreamOperationsRequest& message,
                      v1::StreamOperationsResponse* response) override {
    if (message.vm() == "bad") return FieldError("vm", "bad", "good");
    for (int i = 0; i < message.operations_size(); ++i) {
      response->add_results();
    }
    return absl::OkStatus();
  }

 private:
  std::atomic<int>* const alive_;
};

// What the methods of the test server do.
struct Handlers {
  std::function<absl::Status(CallContext&)> on_short = [](CallContext&) {
    return absl::OkStatus();
  };
  std::function<absl::Status(CallContext&)> on_long = on_short;
  std::function<void(CallContext&, Reply)> on_deferred;
  FunctionSource::Function on_event;
  std::atomic<int> alive = 0;  // sources, sinks and answerers

  absl::Status GetVm(CallContext& context, const v1::GetVmRequest& request,
                     v1::GetVmResponse* response) {
    response->mutable_vm()->set_name(request.name());
    return on_short(context);
  }
  absl::Status ListVms(CallContext&, const v1::ListVmsRequest&,
                       v1::ListVmsResponse*) {
    return absl::OkStatus();
  }
  absl::Status StartVm(CallContext& context, const v1::StartVmRequest& request,
                       v1::StartVmResponse* response) {
    response->mutable_vm()->set_name(request.name());
    return on_long(context);
  }
  void StopVm(CallContext& context, const v1::StopVmRequest&,
              v1::StopVmResponse*, Reply reply) {
    on_deferred(context, std::move(reply));
  }
  EventSourcePtr WatchEvents(CallContext&,
                             const v1::WatchEventsRequest& request) {
    if (request.vm() == "bad") return FieldError("vm", "bad", "good");
    return std::make_unique<FunctionSource>(on_event, &alive);
  }
  absl::StatusOr<std::unique_ptr<
      StreamSink<v1::WriteGuestMemoryRequest, v1::WriteGuestMemoryResponse>>>
  WriteGuestMemory(CallContext&) {
    return std::make_unique<SumSink>(&alive);
  }
  absl::StatusOr<std::unique_ptr<StreamAnswerer<v1::StreamOperationsRequest,
                                                v1::StreamOperationsResponse>>>
  StreamOperations(CallContext&) {
    return std::make_unique<CountAnswerer>(&alive);
  }
};

struct Param {
  RunOn streams_on;
  int poller_count;
};

class RpcServerTest : public testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    char path[] = "/tmp/tdpd-rpc-test-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    folder_ = path;
  }
  void TearDown() override {
    channel_.reset();
    if (server_ != nullptr) {
      server_->Shutdown();
      EXPECT_EQ(server_->active_count(), 0u);
    }
    executor_.reset();
    EXPECT_EQ(handlers_.alive, 0) << "a stream object outlived its call";
    unlink(absl::StrCat(folder_, "/s").c_str());
    rmdir(folder_.c_str());
  }

  void Start(RpcServer::Options options = {},
             Executor::Options executor = {.thread_count = 2}) {
    options.poller_count = GetParam().poller_count;
    executor_ = std::make_unique<Executor>(executor);
    server_ = std::make_unique<RpcServer>(options, *executor_);
    const RunOn streams = GetParam().streams_on;
    {
      using S = v1::VmService::AsyncService;
      S& s = server_->AddService<v1::VmService>();
      server_->Unary(s, {"VmService.GetVm", RunOn::kPoller}, &S::RequestGetVm,
                     &handlers_, &Handlers::GetVm,
                     [](const v1::GetVmRequest& request) {
                       return request.name() == "long";
                     });
      server_->Unary(
          s, {"VmService.ListVms", RunOn::kPoller, WhileDraining::kServe},
          &S::RequestListVms, &handlers_, &Handlers::ListVms);
      server_->Unary(s, {"VmService.StartVm", RunOn::kExecutor},
                     &S::RequestStartVm, &handlers_, &Handlers::StartVm);
      server_->DeferredUnary(s, {"VmService.StopVm", RunOn::kExecutor},
                             &S::RequestStopVm, &handlers_, &Handlers::StopVm);
      server_->NotImplemented(s, "VmService.DeleteVm", &S::RequestDeleteVm);
    }
    {
      using S = v1::EventService::AsyncService;
      S& s = server_->AddService<v1::EventService>();
      server_->ServerStream(s, {"EventService.WatchEvents", streams},
                            &S::RequestWatchEvents, &handlers_,
                            &Handlers::WatchEvents);
    }
    {
      using S = v1::GuestMemoryService::AsyncService;
      S& s = server_->AddService<v1::GuestMemoryService>();
      server_->ClientStream(s, {"GuestMemoryService.WriteGuestMemory", streams},
                            &S::RequestWriteGuestMemory, &handlers_,
                            &Handlers::WriteGuestMemory);
    }
    {
      using S = v1::MmuService::AsyncService;
      S& s = server_->AddService<v1::MmuService>();
      server_->BidiStream(s, {"MmuService.StreamOperations", streams},
                          &S::RequestStreamOperations, &handlers_,
                          &Handlers::StreamOperations);
    }
    const std::string address = absl::StrCat("unix:", folder_, "/s");
    const absl::Status started =
        server_->Start({{address, grpc::InsecureServerCredentials()}});
    ASSERT_TRUE(started.ok()) << started;
    channel_ = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
    vms_ = v1::VmService::NewStub(channel_);
    events_ = v1::EventService::NewStub(channel_);
    memory_ = v1::GuestMemoryService::NewStub(channel_);
    mmu_ = v1::MmuService::NewStub(channel_);
  }

  grpc::Status CallShort(std::string name = "x") {
    grpc::ClientContext context;
    v1::GetVmRequest request;
    request.set_name(std::move(name));
    v1::GetVmResponse response;
    const grpc::Status status = vms_->GetVm(&context, request, &response);
    if (status.ok()) {
      EXPECT_EQ(response.vm().name(), request.name());
    }
    return status;
  }

  grpc::Status CallLong(grpc::ClientContext* context) {
    v1::StartVmResponse response;
    return vms_->StartVm(context, v1::StartVmRequest(), &response);
  }

  // Waits until no stream object exists.
  void AwaitNoneAlive() {
    while (handlers_.alive > 0) absl::SleepFor(absl::Milliseconds(1));
  }

  std::string folder_;
  Handlers handlers_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::VmService::Stub> vms_;
  std::unique_ptr<v1::EventService::Stub> events_;
  std::unique_ptr<v1::GuestMemoryService::Stub> memory_;
  std::unique_ptr<v1::MmuService::Stub> mmu_;
};

std::string ReasonOf(const grpc::Status& status) {
  v1::RpcStatus details;
  if (!details.ParseFromString(status.error_details())) return "unparsable";
  v1::ErrorInfo info;
  if (details.details_size() == 0 ||
      !info.ParseFromString(details.details(0).value())) {
    return "none";
  }
  return info.reason();
}

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
    method = context.method();
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

TEST_P(RpcServerTest, StreamsUntilTheSourceEnds) {
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

TEST_P(RpcServerTest, EndsAStreamWithTheErrorOfItsSource) {
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

TEST_P(RpcServerTest, EndsAStreamThatCannotBeOpened) {
  Start();
  grpc::ClientContext context;
  v1::WatchEventsRequest request;
  request.set_vm("bad");
  auto stream = events_->WatchEvents(&context, request);
  EXPECT_EQ(ReasonOf(stream->Finish()), "FIELD_INVALID");
}

TEST_P(RpcServerTest, WakesAParkedStreamFromAnyThread) {
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

TEST_P(RpcServerTest, AsksAParkedStreamAgainWhenItsTimeHasCome) {
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
TEST_P(RpcServerTest, LetsGoOfACancelledStreamAtEveryPoint) {
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

TEST_P(RpcServerTest, LetsGoOfStreamsThatAreCancelledAtAnyMoment) {
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

TEST_P(RpcServerTest, HoldsBackTheStreamOfASlowReader) {
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

TEST_P(RpcServerTest, TakesAClientStream) {
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

TEST_P(RpcServerTest, EndsAClientStreamAtItsFirstError) {
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

TEST_P(RpcServerTest, LetsGoOfACancelledClientStream) {
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

TEST_P(RpcServerTest, AnswersABidiStreamInOrder) {
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

TEST_P(RpcServerTest, EndsABidiStreamWithAnErrorOrACancellation) {
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

TEST_P(RpcServerTest, ShutdownCancelsWhatStillRuns) {
  absl::Notification started;
  handlers_.on_long = [&](CallContext& context) {
    started.Notify();
    while (!context.cancelled()) absl::SleepFor(absl::Milliseconds(1));
    return absl::OkStatus();
  };
  handlers_.on_event = [&](CallContext&, v1::WatchEventsResponse*)
      -> absl::StatusOr<StreamStep> { return StreamStep::Park(); };
  Start();
  std::thread caller([&] {
    grpc::ClientContext context;
    EXPECT_FALSE(CallLong(&context).ok());
  });
  grpc::ClientContext event_context;
  auto events = events_->WatchEvents(&event_context, v1::WatchEventsRequest());
  grpc::ClientContext write_context;
  v1::WriteGuestMemoryResponse response;
  auto writes = memory_->WriteGuestMemory(&write_context, &response);
  ASSERT_TRUE(writes->Write(v1::WriteGuestMemoryRequest()));
  started.WaitForNotification();
  server_->Shutdown();
  caller.join();
  EXPECT_FALSE(events->Finish().ok());
  EXPECT_FALSE(writes->Finish().ok());
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
