// A server whose handlers are a test's own, and a real gRPC client of it over a
// Unix socket. The methods are those of the API.

#ifndef SERVER_RPC_RPC_SERVER_FIXTURE_H_
#define SERVER_RPC_RPC_SERVER_FIXTURE_H_

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/rpc/rpc_server.h"
#include "tdp/v1/error.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server {

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
      server_->Unary(s, {"VmService.GetVm", Role::kNone, RunOn::kPoller},
                     &S::RequestGetVm, &handlers_, &Handlers::GetVm,
                     [](const v1::GetVmRequest& request) {
                       return request.name() == "long";
                     });
      server_->Unary(s,
                     {"VmService.ListVms", Role::kNone, RunOn::kPoller,
                      WhileDraining::kServe},
                     &S::RequestListVms, &handlers_, &Handlers::ListVms);
      server_->Unary(s, {"VmService.StartVm", Role::kNone, RunOn::kExecutor},
                     &S::RequestStartVm, &handlers_, &Handlers::StartVm);
      server_->DeferredUnary(
          s, {"VmService.StopVm", Role::kNone, RunOn::kExecutor},
          &S::RequestStopVm, &handlers_, &Handlers::StopVm);
      server_->NotImplemented(s, "VmService.DeleteVm", &S::RequestDeleteVm);
    }
    {
      using S = v1::EventService::AsyncService;
      S& s = server_->AddService<v1::EventService>();
      server_->ServerStream(
          s, {"EventService.WatchEvents", Role::kNone, streams},
          &S::RequestWatchEvents, &handlers_, &Handlers::WatchEvents);
    }
    {
      using S = v1::GuestMemoryService::AsyncService;
      S& s = server_->AddService<v1::GuestMemoryService>();
      server_->ClientStream(
          s, {"GuestMemoryService.WriteGuestMemory", Role::kNone, streams},
          &S::RequestWriteGuestMemory, &handlers_, &Handlers::WriteGuestMemory);
    }
    {
      using S = v1::MmuService::AsyncService;
      S& s = server_->AddService<v1::MmuService>();
      server_->BidiStream(
          s, {"MmuService.StreamOperations", Role::kNone, streams},
          &S::RequestStreamOperations, &handlers_, &Handlers::StreamOperations);
    }
    const std::string address = absl::StrCat("unix:", folder_, "/s");
    const absl::Status started =
        server_->Start({{address, grpc::InsecureServerCredentials()}});
    ASSERT_TRUE(started.ok()) << started;
    grpc::ChannelArguments arguments;
    // Without it the window grows with what came fast, and how much a client
    // that does not read takes in is a matter of luck.
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    channel_ = grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments);
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

inline std::string ReasonOf(const grpc::Status& status) {
  v1::RpcStatus details;
  if (!details.ParseFromString(status.error_details())) return "unparsable";
  v1::ErrorInfo info;
  if (details.details_size() == 0 ||
      !info.ParseFromString(details.details(0).value())) {
    return "none";
  }
  return info.reason();
}

}  // namespace tdp::server

#endif  // SERVER_RPC_RPC_SERVER_FIXTURE_H_
