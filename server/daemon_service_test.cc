// The daemon as its clients see it: the end, reflection, every method.

#include <signal.h>

#include <memory>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "server/daemon_fixture.h"
#include "tdp/v1/dirty_log_service.grpc.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/stats_service.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/working_set_service.grpc.pb.h"

namespace tdp::server {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using testing::HasSubstr;

class DaemonServiceTest : public DaemonTest {};

// Asks one question by reflection of either version.
template <typename Reflection, typename Request, typename Response>
Response Ask(const std::shared_ptr<grpc::Channel>& channel,
             const Request& request) {
  grpc::ClientContext context;
  auto stream = Reflection::NewStub(channel)->ServerReflectionInfo(&context);
  Response response;
  EXPECT_TRUE(stream->Write(request));
  EXPECT_TRUE(stream->Read(&response));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  return response;
}

TEST_F(DaemonServiceTest, TellsItsClientsThatItDrains) {
  DaemonProcess& daemon = Serve();
  // A client stream that goes on keeps the daemon up until it is done.
  grpc::ClientContext write_context;
  v1::WriteGuestMemoryResponse written;
  const auto writes = OpenWrite(&write_context, &written);
  const auto health = Health::NewStub(channel_);
  grpc::ClientContext health_context;
  const auto health_watch =
      health->Watch(&health_context, HealthCheckRequest());
  HealthCheckResponse state;
  ASSERT_TRUE(health_watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::SERVING);

  v1::WatchEventsRequest watch;
  watch.set_vm("vms/a");
  grpc::ClientContext event_context;
  const auto events =
      v1::EventService::NewStub(channel_)->WatchEvents(&event_context, watch);
  v1::WatchEventsResponse message;
  ASSERT_TRUE(events->Read(&message));

  v1::WaitVcpuRequest wait;
  wait.set_name("vms/a/vcpus/0");
  std::thread waiter([&] {
    grpc::ClientContext context;
    v1::WaitVcpuResponse response;
    EXPECT_EQ(ReasonOf(v1::VcpuService::NewStub(channel_)->WaitVcpu(
                  &context, wait, &response)),
              "DRAINING");
  });
  daemon.Signal(SIGTERM);
  ASSERT_TRUE(health_watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(ReasonOf(health_watch->Finish()), "DRAINING");
  EXPECT_FALSE(events->Read(&message));
  EXPECT_EQ(ReasonOf(events->Finish()), "DRAINING");
  waiter.join();
  const grpc::Status refused = GetInfo(channel_);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused), "DRAINING");
  grpc::ClientContext check_context;
  EXPECT_TRUE(health->Check(&check_context, HealthCheckRequest(), &state).ok());
  EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
  // A client that finds Health by reflection can still do so.
  namespace r = grpc::reflection::v1;
  r::ServerReflectionRequest question;
  question.set_file_containing_symbol("grpc.health.v1.Health");
  EXPECT_TRUE((Ask<r::ServerReflection, r::ServerReflectionRequest,
                   r::ServerReflectionResponse>(channel_, question)
                   .has_file_descriptor_response()));
  writes->WritesDone();
  EXPECT_TRUE(writes->Finish().ok());
  EXPECT_EQ(daemon.AwaitExit(), 0);
}

TEST_F(DaemonServiceTest, GivesCallsTenSecondsThenEndsAllTheSame) {
  DaemonProcess& daemon = Serve();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  const auto stream = OpenWrite(&context, &response);
  const absl::Time start = absl::Now();
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 0);
  EXPECT_GE(absl::Now() - start, absl::Seconds(9));
  EXPECT_EQ(ReasonOf(stream->Finish()), "DRAINING");
  EXPECT_FALSE(Exists(socket_));
}

TEST_F(DaemonServiceTest, EndsAtOnceAtASecondSignal) {
  DaemonProcess& daemon = Serve();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  const auto stream = OpenWrite(&context, &response);
  daemon.Signal(SIGTERM);
  const absl::Time start = absl::Now();
  // Too soon after the first it is taken for the same.
  while (CountOf(daemon.Output(), "a second signal") == 0 &&
         absl::Now() < start + absl::Seconds(9)) {
    absl::SleepFor(absl::Milliseconds(20));
    daemon.Signal(SIGTERM);
  }
  EXPECT_EQ(daemon.AwaitExit(), 1);
  EXPECT_THAT(daemon.Output(), HasSubstr("a second signal"));
  stream->Finish();
}

TEST_F(DaemonServiceTest, TakesHeadersOfEightKibibytesAndNoMore) {
  Serve();
  // What HTTP/2 counts for a header besides its name and value, and what gRPC's
  // own headers of a call take, with room.
  constexpr int64_t kOwnBytes = 600;
  const auto call_with = [&](int64_t bytes) {
    grpc::ClientContext context;
    context.AddMetadata("filler", std::string(static_cast<size_t>(bytes), 'f'));
    v1::GetInfoResponse response;
    return v1::InfoService::NewStub(channel_)->GetInfo(
        &context, v1::GetInfoRequest(), &response);
  };
  EXPECT_TRUE(call_with(limits::kMaxMetadataBytes - kOwnBytes).ok());
  EXPECT_EQ(call_with(limits::kMaxMetadataBytes + 1).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(DaemonServiceTest, DescribesItselfByReflection) {
  Serve();
  namespace r = grpc::reflection::v1;
  namespace alpha = grpc::reflection::v1alpha;
  r::ServerReflectionRequest request;
  request.set_list_services("");
  const auto listed = Ask<r::ServerReflection, r::ServerReflectionRequest,
                          r::ServerReflectionResponse>(channel_, request);
  std::set<std::string> names;
  for (const auto& service : listed.list_services_response().service()) {
    names.insert(service.name());
  }
  EXPECT_EQ(names.size(), 13u);
  for (const char* name :
       {"tdp.v1.InfoService", "tdp.v1.VmService", "tdp.v1.VcpuService",
        "tdp.v1.MemslotService", "tdp.v1.MmuService",
        "tdp.v1.GuestMemoryService", "tdp.v1.StatsService",
        "tdp.v1.EventService", "tdp.v1.DirtyLogService",
        "tdp.v1.WorkingSetService", "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  alpha::ServerReflectionRequest alpha_request;
  alpha_request.set_file_containing_symbol("grpc.health.v1.Health");
  const auto file =
      Ask<alpha::ServerReflection, alpha::ServerReflectionRequest,
          alpha::ServerReflectionResponse>(channel_, alpha_request);
  EXPECT_EQ(file.file_descriptor_response().file_descriptor_proto_size(), 1);
}

// Sends an empty message to any method and returns how the call ended.
grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel,
                       const std::string& method) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  auto call = stub.PrepareCall(&context, method, &queue);
  const auto await = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  await();
  const grpc::Slice nothing;
  const grpc::ByteBuffer empty(&nothing, 1);
  call->WriteLast(empty, grpc::WriteOptions(), nullptr);
  await();
  grpc::ByteBuffer response;
  do {
    call->Read(&response, nullptr);
  } while (await());
  grpc::Status status;
  call->Finish(&status, nullptr);
  await();
  return status;
}

// A method that was forgotten when the services were wired would hang.
TEST_F(DaemonServiceTest, AnswersEveryMethodOfTheApi) {
  Serve();
  const google::protobuf::Descriptor* kOneMessageOfEachFile[] = {
      v1::Capability::descriptor(),    v1::Vm::descriptor(),
      v1::Vcpu::descriptor(),          v1::Memslot::descriptor(),
      v1::MmuOperation::descriptor(),  v1::DiscardRangeRequest::descriptor(),
      v1::VmStats::descriptor(),       v1::Event::descriptor(),
      v1::DirtyConsumer::descriptor(), v1::WorkingSet::descriptor(),
  };
  std::set<std::string> not_implemented;
  int count = 0;
  for (const google::protobuf::Descriptor* message : kOneMessageOfEachFile) {
    ASSERT_EQ(message->file()->service_count(), 1);
    const auto* service = message->file()->service(0);
    for (int i = 0; i < service->method_count(); ++i) {
      const std::string method = service->method(i)->name();
      const grpc::Status status = CallEmpty(
          channel_, absl::StrCat("/", service->full_name(), "/", method));
      ++count;
      if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
        EXPECT_THAT(status.error_message(),
                    HasSubstr(absl::StrCat(service->name(), ".", method,
                                           " is part of the API")));
        EXPECT_EQ(ReasonOf(status), "NOT_IMPLEMENTED");
        not_implemented.insert(method);
        continue;
      }
      if (method == "GetInfo" || method == "ListVms") {
        EXPECT_TRUE(status.ok()) << method << status.error_message();
      } else {
        EXPECT_EQ(ReasonOf(status), "FIELD_INVALID") << method;
      }
    }
  }
  EXPECT_EQ(count, 48);
  EXPECT_EQ(not_implemented, std::set<std::string>());
}

TEST_F(DaemonServiceTest, StreamsADirtyLogAndTakesItsBitsBack) {
  Serve();
  grpc::ClientContext write_context;
  v1::WriteGuestMemoryResponse written;
  const auto writes = OpenWrite(&write_context, &written);
  v1::UpdateMemslotRequest update;
  update.mutable_memslot()->set_name("vms/a/memslots/ram");
  update.mutable_memslot()->set_dirty_log_enabled(true);
  update.mutable_update_mask()->add_paths("dirty_log_enabled");
  v1::UpdateMemslotResponse updated;
  grpc::ClientContext update_context;
  ASSERT_TRUE(v1::MemslotService::NewStub(channel_)
                  ->UpdateMemslot(&update_context, update, &updated)
                  .ok());
  v1::WriteGuestMemoryRequest chunk;
  chunk.set_data("y");
  ASSERT_TRUE(writes->Write(chunk));
  writes->WritesDone();
  ASSERT_TRUE(writes->Finish().ok());

  const auto log = v1::DirtyLogService::NewStub(channel_);
  v1::ReadDirtyLogRequest read;
  read.set_memslot("vms/a/memslots/ram");
  grpc::ClientContext read_context;
  const auto reader = log->ReadDirtyLog(&read_context, read);
  v1::ReadDirtyLogResponse bits;
  ASSERT_TRUE(reader->Read(&bits));
  EXPECT_EQ(bits.dirty_frame_count(), 1);
  EXPECT_EQ(bits.dirty().bits(), "\x01");
  v1::ReadDirtyLogResponse no_more;
  EXPECT_FALSE(reader->Read(&no_more));
  EXPECT_TRUE(reader->Finish().ok());

  v1::ClearDirtyLogRequest clear;
  clear.set_memslot("vms/a/memslots/ram");
  *clear.mutable_dirty() = bits.dirty();
  v1::ClearDirtyLogResponse cleared;
  grpc::ClientContext clear_context;
  const auto clears = log->ClearDirtyLog(&clear_context, &cleared);
  EXPECT_TRUE(clears->Write(clear));
  EXPECT_TRUE(clears->Write(clear));
  clears->WritesDone();
  EXPECT_TRUE(clears->Finish().ok());
  EXPECT_EQ(cleared.cleared_frame_count(), 1) << "the second time it was clear";
}

TEST_F(DaemonServiceTest, WatchesTheWorkingSetUntilTheVmIsDeleted) {
  Serve();
  CreateVm("a");
  const auto stub = v1::WorkingSetService::NewStub(channel_);
  v1::EstimateWorkingSetRequest estimate;
  estimate.set_vm("vms/a");
  v1::EstimateWorkingSetResponse estimated;
  grpc::ClientContext estimate_context;
  ASSERT_TRUE(
      stub->EstimateWorkingSet(&estimate_context, estimate, &estimated).ok());
  EXPECT_EQ(estimated.working_set().buckets_size(), 2);
  grpc::ClientContext context;
  v1::WatchWorkingSetRequest request;
  request.set_vm("vms/a");
  const auto stream = stub->WatchWorkingSet(&context, request);
  v1::WatchWorkingSetResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.working_set().buckets_size(), 2);
  v1::DeleteVmRequest remove;
  remove.set_name("vms/a");
  v1::DeleteVmResponse removed;
  grpc::ClientContext remove_context;
  ASSERT_TRUE(v1::VmService::NewStub(channel_)
                  ->DeleteVm(&remove_context, remove, &removed)
                  .ok());
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(DaemonServiceTest, RefusesAMessageOverFourMebibytesWithASentence) {
  Serve();
  grpc::ClientContext context;
  v1::GetVmRequest request;
  // A tag and four bytes of length come before the name.
  request.set_name(std::string((4 << 20) - 5, 'x'));
  ASSERT_EQ(request.ByteSizeLong(), 4u << 20);
  const auto stub = v1::VmService::NewStub(channel_);
  v1::GetVmResponse response;
  EXPECT_EQ(ReasonOf(stub->GetVm(&context, request, &response)),
            "FIELD_INVALID")
      << "the size is fine";
  request.mutable_name()->push_back('x');
  grpc::ClientContext larger_context;
  const grpc::Status status = stub->GetVm(&larger_context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("4194304"));
}

TEST_F(DaemonServiceTest,
       AnswersAHostileNameWithAnErrorThatFitsIntoTheHeaders) {
  Serve();
  grpc::ClientContext context;
  v1::GetVmRequest request;
  request.set_name("vms/" + std::string(1 << 20, '\x1f'));
  v1::GetVmResponse response;
  const grpc::Status status =
      v1::VmService::NewStub(channel_)->GetVm(&context, request, &response);
  EXPECT_EQ(ReasonOf(status), "FIELD_INVALID");
}

}  // namespace
}  // namespace tdp::server
