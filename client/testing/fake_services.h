// The gRPC services behind FakeServer, each of which hands its calls to the
// methods there. Only FakeServer's own source file includes it.
//
// Thread safety: any thread, as FakeServer.

#ifndef CLIENT_TESTING_FAKE_SERVICES_H_
#define CLIENT_TESTING_FAKE_SERVICES_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/testing/fake_server.h"
#include "tdp/v1/dirty_log_service.grpc.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"
#include "tdp/v1/working_set_service.grpc.pb.h"

namespace tdp::client {

// The status as a gRPC server sends it, payloads as details.
grpc::Status ToGrpc(const absl::Status& status);

// What the services share: where the methods are, and the last deadline.
struct FakeCalls {
  FakeServer& fake;
  std::atomic<int64_t> last_timeout_ns{0};

  void NoteDeadline(const grpc::ServerContext& context) {
    const auto deadline = context.deadline();
    const bool none = deadline == std::chrono::system_clock::time_point::max();
    const absl::Duration timeout =
        none ? absl::InfiniteDuration()
             : absl::FromChrono(deadline) - absl::Now();
    last_timeout_ns = absl::ToInt64Nanoseconds(timeout);
  }

  template <typename Method, typename Request, typename Response>
  grpc::Status Unary(Method& method, const grpc::ServerContext& context,
                     const Request& request, Response& response) {
    NoteDeadline(context);
    return ToGrpc(method.Handle(request, response));
  }

  // The request of the method is all messages of the stream.
  template <typename Method, typename Request, typename Response>
  grpc::Status Upload(Method& method, const grpc::ServerContext& context,
                      grpc::ServerReader<Request>& reader, Response& response) {
    std::vector<Request> requests;
    Request request;
    while (reader.Read(&request)) requests.push_back(request);
    return Unary(method, context, requests, response);
  }

  template <typename Method, typename Request, typename Response>
  grpc::Status Stream(Method& method, const grpc::ServerContext& context,
                      const Request& request,
                      grpc::ServerWriter<Response>& writer) {
    NoteDeadline(context);
    std::function<bool(const Response&)> send = [&](const Response& response) {
      return writer.Write(response);
    };
    return ToGrpc(method.Handle(request, send));
  }
};

class FakeInfoService final : public v1::InfoService::Service {
 public:
  explicit FakeInfoService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status GetInfo(grpc::ServerContext* context,
                       const v1::GetInfoRequest* request,
                       v1::GetInfoResponse* response) override {
    return calls_.Unary(calls_.fake.get_info, *context, *request, *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeVmService final : public v1::VmService::Service {
 public:
  explicit FakeVmService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status CreateVm(grpc::ServerContext* context,
                        const v1::CreateVmRequest* request,
                        v1::CreateVmResponse* response) override {
    return calls_.Unary(calls_.fake.create_vm, *context, *request, *response);
  }
  grpc::Status GetVm(grpc::ServerContext* context,
                     const v1::GetVmRequest* request,
                     v1::GetVmResponse* response) override {
    return calls_.Unary(calls_.fake.get_vm, *context, *request, *response);
  }
  grpc::Status ListVms(grpc::ServerContext* context,
                       const v1::ListVmsRequest* request,
                       v1::ListVmsResponse* response) override {
    return calls_.Unary(calls_.fake.list_vms, *context, *request, *response);
  }
  grpc::Status UpdateVm(grpc::ServerContext* context,
                        const v1::UpdateVmRequest* request,
                        v1::UpdateVmResponse* response) override {
    return calls_.Unary(calls_.fake.update_vm, *context, *request, *response);
  }
  grpc::Status DeleteVm(grpc::ServerContext* context,
                        const v1::DeleteVmRequest* request,
                        v1::DeleteVmResponse* response) override {
    return calls_.Unary(calls_.fake.delete_vm, *context, *request, *response);
  }
  grpc::Status StartVm(grpc::ServerContext* context,
                       const v1::StartVmRequest* request,
                       v1::StartVmResponse* response) override {
    return calls_.Unary(calls_.fake.start_vm, *context, *request, *response);
  }
  grpc::Status PauseVm(grpc::ServerContext* context,
                       const v1::PauseVmRequest* request,
                       v1::PauseVmResponse* response) override {
    return calls_.Unary(calls_.fake.pause_vm, *context, *request, *response);
  }
  grpc::Status ResumeVm(grpc::ServerContext* context,
                        const v1::ResumeVmRequest* request,
                        v1::ResumeVmResponse* response) override {
    return calls_.Unary(calls_.fake.resume_vm, *context, *request, *response);
  }
  grpc::Status StopVm(grpc::ServerContext* context,
                      const v1::StopVmRequest* request,
                      v1::StopVmResponse* response) override {
    return calls_.Unary(calls_.fake.stop_vm, *context, *request, *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeMemslotService final : public v1::MemslotService::Service {
 public:
  explicit FakeMemslotService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status CreateMemslot(grpc::ServerContext* context,
                             const v1::CreateMemslotRequest* request,
                             v1::CreateMemslotResponse* response) override {
    return calls_.Unary(calls_.fake.create_memslot, *context, *request,
                        *response);
  }
  grpc::Status GetMemslot(grpc::ServerContext* context,
                          const v1::GetMemslotRequest* request,
                          v1::GetMemslotResponse* response) override {
    return calls_.Unary(calls_.fake.get_memslot, *context, *request, *response);
  }
  grpc::Status ListMemslots(grpc::ServerContext* context,
                            const v1::ListMemslotsRequest* request,
                            v1::ListMemslotsResponse* response) override {
    return calls_.Unary(calls_.fake.list_memslots, *context, *request,
                        *response);
  }
  grpc::Status UpdateMemslot(grpc::ServerContext* context,
                             const v1::UpdateMemslotRequest* request,
                             v1::UpdateMemslotResponse* response) override {
    return calls_.Unary(calls_.fake.update_memslot, *context, *request,
                        *response);
  }
  grpc::Status DeleteMemslot(grpc::ServerContext* context,
                             const v1::DeleteMemslotRequest* request,
                             v1::DeleteMemslotResponse* response) override {
    return calls_.Unary(calls_.fake.delete_memslot, *context, *request,
                        *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeVcpuService final : public v1::VcpuService::Service {
 public:
  explicit FakeVcpuService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status LoadGuest(grpc::ServerContext* context,
                         const v1::LoadGuestRequest* request,
                         v1::LoadGuestResponse* response) override {
    return calls_.Unary(calls_.fake.load_guest, *context, *request, *response);
  }
  grpc::Status GetVcpu(grpc::ServerContext* context,
                       const v1::GetVcpuRequest* request,
                       v1::GetVcpuResponse* response) override {
    return calls_.Unary(calls_.fake.get_vcpu, *context, *request, *response);
  }
  grpc::Status ListVcpus(grpc::ServerContext* context,
                         const v1::ListVcpusRequest* request,
                         v1::ListVcpusResponse* response) override {
    return calls_.Unary(calls_.fake.list_vcpus, *context, *request, *response);
  }
  grpc::Status WaitVcpu(grpc::ServerContext* context,
                        const v1::WaitVcpuRequest* request,
                        v1::WaitVcpuResponse* response) override {
    return calls_.Unary(calls_.fake.wait_vcpu, *context, *request, *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeMmuService final : public v1::MmuService::Service {
 public:
  explicit FakeMmuService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status MapRange(grpc::ServerContext* context,
                        const v1::MapRangeRequest* request,
                        v1::MapRangeResponse* response) override {
    return calls_.Unary(calls_.fake.map_range, *context, *request, *response);
  }
  grpc::Status ZapRange(grpc::ServerContext* context,
                        const v1::ZapRangeRequest* request,
                        v1::ZapRangeResponse* response) override {
    return calls_.Unary(calls_.fake.zap_range, *context, *request, *response);
  }
  grpc::Status StreamOperations(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::StreamOperationsResponse,
                               v1::StreamOperationsRequest>* stream) override {
    v1::StreamOperationsRequest request;
    while (stream->Read(&request)) {
      v1::StreamOperationsResponse response;
      const grpc::Status status = calls_.Unary(calls_.fake.stream_operations,
                                               *context, request, response);
      if (!status.ok()) return status;
      if (!stream->Write(response)) break;
    }
    return grpc::Status::OK;
  }
  grpc::Status ZapAll(grpc::ServerContext* context,
                      const v1::ZapAllRequest* request,
                      v1::ZapAllResponse* response) override {
    return calls_.Unary(calls_.fake.zap_all, *context, *request, *response);
  }
  grpc::Status ProtectRange(grpc::ServerContext* context,
                            const v1::ProtectRangeRequest* request,
                            v1::ProtectRangeResponse* response) override {
    return calls_.Unary(calls_.fake.protect_range, *context, *request,
                        *response);
  }
  grpc::Status WriteProtectRange(
      grpc::ServerContext* context, const v1::WriteProtectRangeRequest* request,
      v1::WriteProtectRangeResponse* response) override {
    return calls_.Unary(calls_.fake.write_protect_range, *context, *request,
                        *response);
  }
  grpc::Status SplitHugePages(grpc::ServerContext* context,
                              const v1::SplitHugePagesRequest* request,
                              v1::SplitHugePagesResponse* response) override {
    return calls_.Unary(calls_.fake.split_huge_pages, *context, *request,
                        *response);
  }
  grpc::Status CollapseHugePages(
      grpc::ServerContext* context, const v1::CollapseHugePagesRequest* request,
      v1::CollapseHugePagesResponse* response) override {
    return calls_.Unary(calls_.fake.collapse_huge_pages, *context, *request,
                        *response);
  }
  grpc::Status AgeRange(grpc::ServerContext* context,
                        const v1::AgeRangeRequest* request,
                        v1::AgeRangeResponse* response) override {
    return calls_.Unary(calls_.fake.age_range, *context, *request, *response);
  }
  grpc::Status ApplyBatch(grpc::ServerContext* context,
                          const v1::ApplyBatchRequest* request,
                          v1::ApplyBatchResponse* response) override {
    return calls_.Unary(calls_.fake.apply_batch, *context, *request, *response);
  }
  grpc::Status WalkGfn(grpc::ServerContext* context,
                       const v1::WalkGfnRequest* request,
                       v1::WalkGfnResponse* response) override {
    return calls_.Unary(calls_.fake.walk_gfn, *context, *request, *response);
  }
  grpc::Status WalkFrames(grpc::ServerContext* context,
                          const v1::WalkFramesRequest* request,
                          v1::WalkFramesResponse* response) override {
    return calls_.Unary(calls_.fake.walk_frames, *context, *request, *response);
  }
  grpc::Status AuditRange(grpc::ServerContext* context,
                          const v1::AuditRangeRequest* request,
                          v1::AuditRangeResponse* response) override {
    return calls_.Unary(calls_.fake.audit_range, *context, *request, *response);
  }
  grpc::Status WalkRange(
      grpc::ServerContext* context, const v1::WalkRangeRequest* request,
      grpc::ServerWriter<v1::WalkRangeResponse>* writer) override {
    return calls_.Stream(calls_.fake.walk_range, *context, *request, *writer);
  }

 private:
  FakeCalls& calls_;
};

class FakeDirtyLogService final : public v1::DirtyLogService::Service {
 public:
  explicit FakeDirtyLogService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status CreateDirtyConsumer(
      grpc::ServerContext* context,
      const v1::CreateDirtyConsumerRequest* request,
      v1::CreateDirtyConsumerResponse* response) override {
    return calls_.Unary(calls_.fake.create_dirty_consumer, *context, *request,
                        *response);
  }
  grpc::Status ListDirtyConsumers(
      grpc::ServerContext* context,
      const v1::ListDirtyConsumersRequest* request,
      v1::ListDirtyConsumersResponse* response) override {
    return calls_.Unary(calls_.fake.list_dirty_consumers, *context, *request,
                        *response);
  }
  grpc::Status DeleteDirtyConsumer(
      grpc::ServerContext* context,
      const v1::DeleteDirtyConsumerRequest* request,
      v1::DeleteDirtyConsumerResponse* response) override {
    return calls_.Unary(calls_.fake.delete_dirty_consumer, *context, *request,
                        *response);
  }
  grpc::Status ReadDirtyLog(
      grpc::ServerContext* context, const v1::ReadDirtyLogRequest* request,
      grpc::ServerWriter<v1::ReadDirtyLogResponse>* writer) override {
    return calls_.Stream(calls_.fake.read_dirty_log, *context, *request,
                         *writer);
  }
  grpc::Status ClearDirtyLog(
      grpc::ServerContext* context,
      grpc::ServerReader<v1::ClearDirtyLogRequest>* reader,
      v1::ClearDirtyLogResponse* response) override {
    return calls_.Upload(calls_.fake.clear_dirty_log, *context, *reader,
                         *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeStatsService final : public v1::StatsService::Service {
 public:
  explicit FakeStatsService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status GetVmStats(grpc::ServerContext* context,
                          const v1::GetVmStatsRequest* request,
                          v1::GetVmStatsResponse* response) override {
    return calls_.Unary(calls_.fake.get_vm_stats, *context, *request,
                        *response);
  }
  grpc::Status WatchVmStats(
      grpc::ServerContext* context, const v1::WatchVmStatsRequest* request,
      grpc::ServerWriter<v1::WatchVmStatsResponse>* writer) override {
    return calls_.Stream(calls_.fake.watch_vm_stats, *context, *request,
                         *writer);
  }

 private:
  FakeCalls& calls_;
};

class FakeEventService final : public v1::EventService::Service {
 public:
  explicit FakeEventService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status WatchEvents(
      grpc::ServerContext* context, const v1::WatchEventsRequest* request,
      grpc::ServerWriter<v1::WatchEventsResponse>* writer) override {
    return calls_.Stream(calls_.fake.watch_events, *context, *request, *writer);
  }
  grpc::Status ListWaitingAccesses(
      grpc::ServerContext* context,
      const v1::ListWaitingAccessesRequest* request,
      v1::ListWaitingAccessesResponse* response) override {
    return calls_.Unary(calls_.fake.list_waiting_accesses, *context, *request,
                        *response);
  }
  grpc::Status ResolveAccess(grpc::ServerContext* context,
                             const v1::ResolveAccessRequest* request,
                             v1::ResolveAccessResponse* response) override {
    return calls_.Unary(calls_.fake.resolve_access, *context, *request,
                        *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeGuestMemoryService final : public v1::GuestMemoryService::Service {
 public:
  explicit FakeGuestMemoryService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status ReadGuestMemory(
      grpc::ServerContext* context, const v1::ReadGuestMemoryRequest* request,
      grpc::ServerWriter<v1::ReadGuestMemoryResponse>* writer) override {
    return calls_.Stream(calls_.fake.read_memory, *context, *request, *writer);
  }
  grpc::Status WriteGuestMemory(
      grpc::ServerContext* context,
      grpc::ServerReader<v1::WriteGuestMemoryRequest>* reader,
      v1::WriteGuestMemoryResponse* response) override {
    return calls_.Upload(calls_.fake.write_memory, *context, *reader,
                         *response);
  }
  grpc::Status DiscardRange(grpc::ServerContext* context,
                            const v1::DiscardRangeRequest* request,
                            v1::DiscardRangeResponse* response) override {
    return calls_.Unary(calls_.fake.discard_range, *context, *request,
                        *response);
  }

 private:
  FakeCalls& calls_;
};

class FakeWorkingSetService final : public v1::WorkingSetService::Service {
 public:
  explicit FakeWorkingSetService(FakeCalls& calls) : calls_(calls) {}

  grpc::Status EstimateWorkingSet(
      grpc::ServerContext* context,
      const v1::EstimateWorkingSetRequest* request,
      v1::EstimateWorkingSetResponse* response) override {
    return calls_.Unary(calls_.fake.estimate_working_set, *context, *request,
                        *response);
  }
  grpc::Status WatchWorkingSet(
      grpc::ServerContext* context, const v1::WatchWorkingSetRequest* request,
      grpc::ServerWriter<v1::WatchWorkingSetResponse>* writer) override {
    return calls_.Stream(calls_.fake.watch_working_set, *context, *request,
                         *writer);
  }

 private:
  FakeCalls& calls_;
};

}  // namespace tdp::client

#endif  // CLIENT_TESTING_FAKE_SERVICES_H_
