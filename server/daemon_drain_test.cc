// SIGTERM while the daemon is busy.

#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/daemon_fixture.h"
#include "server/testing/cut_proxy.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"

namespace tdp::server {
namespace {

class DaemonDrainTest : public DaemonTest {
 protected:
  ~DaemonDrainTest() override { JoinAll(); }

  // Runs `count` threads, each with a channel of its own.
  void Spawn(int count,
             const std::function<void(std::shared_ptr<grpc::Channel>)>& body) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, body] {
        body(grpc::CreateChannel("unix:" + socket_,
                                 grpc::InsecureChannelCredentials()));
      });
    }
  }
  void JoinAll() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  void CountIn() { ++under_way_; }
  void AwaitUnderWay(int count) {
    while (under_way_ < count) absl::SleepFor(absl::Milliseconds(1));
  }

  // A short or long unary call again and again, until the daemon drains: each
  // has its answer or is refused with a reason.
  template <typename Call>
  void Repeat(const Call& call) {
    bool first = true;
    grpc::Status status;
    while ((status = call()).ok()) {
      if (std::exchange(first, false)) CountIn();
    }
    EXPECT_EQ(ReasonOf(status), "DRAINING");
  }
  template <typename Stream, typename Response>
  void ReadToTheEnd(Stream& stream, Response& response) {
    while (stream.Read(&response)) {
    }
    EXPECT_EQ(ReasonOf(stream.Finish()), "DRAINING");
  }

  std::atomic<int> under_way_ = 0;
  std::vector<std::thread> threads_;
};

TEST_F(DaemonDrainTest, LosesNoAnswerOf64CallsInFlight) {
  DaemonProcess& daemon = Serve();
  // These go on after all others have ended, and hold the daemon up so long.
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<v1::WriteGuestMemoryResponse> written(16);
  std::vector<std::unique_ptr<grpc::ClientWriter<v1::WriteGuestMemoryRequest>>>
      uploads;
  const auto memory = v1::GuestMemoryService::NewStub(channel_);
  v1::WriteGuestMemoryRequest chunk;
  chunk.set_vm("vms/a");
  chunk.set_data("x");
  for (v1::WriteGuestMemoryResponse& response : written) {
    grpc::ClientContext& context =
        *contexts.emplace_back(std::make_unique<grpc::ClientContext>());
    if (uploads.empty()) {
      uploads.push_back(OpenWrite(&context, &response));
    } else {
      uploads.push_back(memory->WriteGuestMemory(&context, &response));
      ASSERT_TRUE(uploads.back()->Write(chunk));
    }
  }
  Spawn(8, [this](std::shared_ptr<grpc::Channel> channel) {
    v1::WaitVcpuRequest request;
    request.set_name("vms/a/vcpus/0");
    grpc::ClientContext context;
    v1::WaitVcpuResponse response;
    CountIn();  // it may also come too late to be let in: the same answer
    EXPECT_EQ(ReasonOf(v1::VcpuService::NewStub(channel)->WaitVcpu(
                  &context, request, &response)),
              "DRAINING");
  });
  Spawn(8, [this](std::shared_ptr<grpc::Channel> channel) {
    v1::WatchEventsRequest request;
    request.set_vm("vms/a");
    grpc::ClientContext context;
    const auto stub = v1::EventService::NewStub(channel);
    const auto stream = stub->WatchEvents(&context, request);
    v1::WatchEventsResponse response;
    EXPECT_TRUE(stream->Read(&response));
    CountIn();
    ReadToTheEnd(*stream, response);
  });
  Spawn(8, [this](std::shared_ptr<grpc::Channel> channel) {
    v1::WatchVmStatsRequest request;
    request.set_vm("vms/a");
    request.mutable_interval()->set_nanos(10'000'000);
    grpc::ClientContext context;
    const auto stub = v1::StatsService::NewStub(channel);
    const auto stream = stub->WatchVmStats(&context, request);
    v1::WatchVmStatsResponse response;
    EXPECT_TRUE(stream->Read(&response));
    CountIn();
    ReadToTheEnd(*stream, response);
  });
  Spawn(8, [this](std::shared_ptr<grpc::Channel> channel) {
    v1::StreamOperationsRequest request;
    request.set_vm("vms/a");
    request.add_operations()->set_walk_gfn(0);
    auto& range = *request.add_operations()->mutable_map()->mutable_range();
    range.set_end_gfn(1);
    grpc::ClientContext context;
    const auto stub = v1::MmuService::NewStub(channel);
    const auto stream = stub->StreamOperations(&context);
    v1::StreamOperationsResponse response;
    bool first = true;
    while (stream->Write(request) && stream->Read(&response)) {
      EXPECT_EQ(response.results_size(), 2);
      if (std::exchange(first, false)) CountIn();
    }
    EXPECT_EQ(ReasonOf(stream->Finish()), "DRAINING");
  });
  Spawn(8, [this](std::shared_ptr<grpc::Channel> channel) {
    const auto stub = v1::MmuService::NewStub(channel);
    v1::WalkGfnRequest request;
    request.set_vm("vms/a");
    Repeat([&] {
      grpc::ClientContext context;
      v1::WalkGfnResponse response;
      return stub->WalkGfn(&context, request, &response);
    });
  });
  Spawn(8, [this](std::shared_ptr<grpc::Channel> channel) {
    const auto stub = v1::MmuService::NewStub(channel);
    v1::MapRangeRequest request;
    request.set_vm("vms/a");
    request.mutable_range()->set_end_gfn(1);
    Repeat([&] {
      grpc::ClientContext context;
      v1::MapRangeResponse response;
      return stub->MapRange(&context, request, &response);
    });
  });
  AwaitUnderWay(48);
  daemon.Signal(SIGTERM);
  JoinAll();
  for (size_t i = 0; i < uploads.size(); ++i) {
    EXPECT_TRUE(uploads[i]->Write(chunk));
    uploads[i]->WritesDone();
    const grpc::Status status = uploads[i]->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(written[i].written_bytes(), 2);
  }
  EXPECT_EQ(daemon.AwaitExit(), 0) << daemon.Output();
}

TEST_F(DaemonDrainTest, TakesSignalsThatComeTogetherForOne) {
  DaemonProcess& daemon = Serve();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  const auto stream = OpenWrite(&context, &response);
  // Both are there when it looks, however slow this machine is.
  daemon.Signal(SIGSTOP);
  daemon.Signal(SIGTERM);
  daemon.Signal(SIGINT);
  daemon.Signal(SIGCONT);
  while (ReasonOf(GetInfo(channel_)) != "DRAINING") {
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(daemon.AwaitExit(), 0) << daemon.Output();
}

TEST_F(DaemonDrainTest, ClientsThatDieLeaveNoThreadAndNoFile) {
  DaemonProcess& daemon = Serve();
  CreateVm("a");
  const int files = daemon.CountOf("fd");
  CutProxy proxy(folder_ + "/proxy", socket_);
  const auto live_and_die = [&] {
    const auto channel = grpc::CreateChannel(
        "unix:" + folder_ + "/proxy", grpc::InsecureChannelCredentials());
    grpc::ClientContext event_context;
    v1::WatchEventsRequest watch;
    watch.set_vm("vms/a");
    const auto events =
        v1::EventService::NewStub(channel)->WatchEvents(&event_context, watch);
    v1::WatchEventsResponse event;
    EXPECT_TRUE(events->Read(&event));
    grpc::ClientContext operation_context;
    const auto operations =
        v1::MmuService::NewStub(channel)->StreamOperations(&operation_context);
    v1::StreamOperationsRequest request;
    request.set_vm("vms/a");
    request.add_operations()->set_walk_gfn(0);
    v1::StreamOperationsResponse response;
    EXPECT_TRUE(operations->Write(request));
    EXPECT_TRUE(operations->Read(&response));
    proxy.Cut();
    EXPECT_FALSE(events->Read(&event));
    events->Finish();
    EXPECT_FALSE(operations->Read(&response));
    operations->Finish();
  };
  const auto settle = [&] {
    const absl::Time patience = absl::Now() + absl::Seconds(60);
    while (daemon.CountOf("fd") > files && absl::Now() < patience) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_LE(daemon.CountOf("fd"), files);
  };
  // gRPC starts some threads when they are first needed.
  for (int i = 0; i < 5; ++i) live_and_die();
  settle();
  const int threads = daemon.CountOf("task");
  for (int i = 0; i < 50; ++i) live_and_die();
  settle();
  EXPECT_LE(daemon.CountOf("task"), threads + 2) << "its own timers vary";
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 0);
}

}  // namespace
}  // namespace tdp::server
