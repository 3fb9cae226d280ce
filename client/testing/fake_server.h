// A gRPC server inside the test: each method answers as the test says and keeps
// the requests that it got. A method that was told nothing answers
// UNIMPLEMENTED.
//
// This header knows no gRPC, which keeps its users quick to compile.
//
// Thread safety: any thread.

#ifndef CLIENT_TESTING_FAKE_SERVER_H_
#define CLIENT_TESTING_FAKE_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tdp/v1/dirty_log_service.pb.h"
#include "tdp/v1/event_service.pb.h"
#include "tdp/v1/guest_memory_service.pb.h"
#include "tdp/v1/info_service.pb.h"
#include "tdp/v1/memslot_service.pb.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/stats_service.pb.h"
#include "tdp/v1/vcpu_service.pb.h"
#include "tdp/v1/vm_service.pb.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::client {

// An error as the daemon sends it: with one ErrorInfo.
absl::Status DaemonError(absl::StatusCode code, const std::string& message,
                         const std::string& reason,
                         const std::map<std::string, std::string>& metadata);

// The same error with a RetryInfo.
absl::Status WithRetryInfo(absl::Status error, absl::Duration delay);

// One method. `Answer` is what the handler fills or calls: a response, or a
// function that sends one message of a stream and says whether to go on.
template <typename Request, typename Answer>
class FakeMethod {
 public:
  using Handler = std::function<absl::Status(const Request&, Answer&)>;

  void Do(Handler handler) {
    const std::lock_guard<std::mutex> lock(mutex_);
    handler_ = std::move(handler);
  }
  void Fail(absl::Status status) {
    Do([status](const Request&, Answer&) { return status; });
  }

  std::vector<Request> requests() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return requests_;
  }

  absl::Status Handle(const Request& request, Answer& answer) {
    Handler handler;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      requests_.push_back(request);
      handler = handler_;
    }
    if (!handler) return absl::UnimplementedError("the test set no answer");
    return handler(request, answer);
  }

 private:
  mutable std::mutex mutex_;
  Handler handler_;
  std::vector<Request> requests_;
};

template <typename Request, typename Response>
class FakeUnary : public FakeMethod<Request, Response> {
 public:
  void Return(Response response) {
    this->Do([response](const Request&, Response& out) {
      out = response;
      return absl::OkStatus();
    });
  }
};

template <typename Request, typename Response>
class FakeStream
    : public FakeMethod<Request, std::function<bool(const Response&)>> {
 public:
  void Return(std::vector<Response> responses) {
    this->Do([responses](const Request&,
                         std::function<bool(const Response&)>& send) {
      for (const Response& response : responses) {
        if (!send(response)) break;
      }
      return absl::OkStatus();
    });
  }
};

class FakeServer {
 public:
  // Listens on a Unix socket in a folder of its own below /tmp.
  FakeServer();
  ~FakeServer();

  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  // No daemon there, until Start(). Not while a call is in progress.
  void Stop();
  void Start();
  // "unix:PATH".
  const std::string& target() const { return target_; }
  // What its health service says; serving from the start.
  void SetServing(bool serving);
  // Time that the last call had when it arrived; infinite without a deadline.
  absl::Duration last_timeout() const;

  FakeUnary<v1::GetInfoRequest, v1::GetInfoResponse> get_info;
  FakeUnary<v1::CreateVmRequest, v1::CreateVmResponse> create_vm;
  FakeUnary<v1::GetVmRequest, v1::GetVmResponse> get_vm;
  FakeUnary<v1::ListVmsRequest, v1::ListVmsResponse> list_vms;
  FakeUnary<v1::UpdateVmRequest, v1::UpdateVmResponse> update_vm;
  FakeUnary<v1::DeleteVmRequest, v1::DeleteVmResponse> delete_vm;
  FakeUnary<v1::StartVmRequest, v1::StartVmResponse> start_vm;
  FakeUnary<v1::PauseVmRequest, v1::PauseVmResponse> pause_vm;
  FakeUnary<v1::ResumeVmRequest, v1::ResumeVmResponse> resume_vm;
  FakeUnary<v1::StopVmRequest, v1::StopVmResponse> stop_vm;
  FakeUnary<v1::CreateMemslotRequest, v1::CreateMemslotResponse> create_memslot;
  FakeUnary<v1::GetMemslotRequest, v1::GetMemslotResponse> get_memslot;
  FakeUnary<v1::ListMemslotsRequest, v1::ListMemslotsResponse> list_memslots;
  FakeUnary<v1::UpdateMemslotRequest, v1::UpdateMemslotResponse> update_memslot;
  FakeUnary<v1::DeleteMemslotRequest, v1::DeleteMemslotResponse> delete_memslot;
  FakeUnary<v1::LoadGuestRequest, v1::LoadGuestResponse> load_guest;
  FakeUnary<v1::GetVcpuRequest, v1::GetVcpuResponse> get_vcpu;
  FakeUnary<v1::ListVcpusRequest, v1::ListVcpusResponse> list_vcpus;
  FakeUnary<v1::WaitVcpuRequest, v1::WaitVcpuResponse> wait_vcpu;
  FakeUnary<v1::MapRangeRequest, v1::MapRangeResponse> map_range;
  FakeUnary<v1::ZapRangeRequest, v1::ZapRangeResponse> zap_range;
  FakeUnary<v1::ZapAllRequest, v1::ZapAllResponse> zap_all;
  FakeUnary<v1::ProtectRangeRequest, v1::ProtectRangeResponse> protect_range;
  FakeUnary<v1::WriteProtectRangeRequest, v1::WriteProtectRangeResponse>
      write_protect_range;
  FakeUnary<v1::SplitHugePagesRequest, v1::SplitHugePagesResponse>
      split_huge_pages;
  FakeUnary<v1::CollapseHugePagesRequest, v1::CollapseHugePagesResponse>
      collapse_huge_pages;
  FakeUnary<v1::AgeRangeRequest, v1::AgeRangeResponse> age_range;
  FakeUnary<v1::ApplyBatchRequest, v1::ApplyBatchResponse> apply_batch;
  FakeUnary<v1::WalkGfnRequest, v1::WalkGfnResponse> walk_gfn;
  FakeUnary<v1::WalkFramesRequest, v1::WalkFramesResponse> walk_frames;
  FakeUnary<v1::AuditRangeRequest, v1::AuditRangeResponse> audit_range;
  FakeUnary<v1::CreateDirtyConsumerRequest, v1::CreateDirtyConsumerResponse>
      create_dirty_consumer;
  FakeUnary<v1::ListDirtyConsumersRequest, v1::ListDirtyConsumersResponse>
      list_dirty_consumers;
  FakeUnary<v1::DeleteDirtyConsumerRequest, v1::DeleteDirtyConsumerResponse>
      delete_dirty_consumer;
  FakeStream<v1::ReadDirtyLogRequest, v1::ReadDirtyLogResponse> read_dirty_log;
  // The request is all messages of the stream.
  FakeUnary<std::vector<v1::ClearDirtyLogRequest>, v1::ClearDirtyLogResponse>
      clear_dirty_log;
  FakeUnary<v1::GetVmStatsRequest, v1::GetVmStatsResponse> get_vm_stats;
  FakeStream<v1::WatchVmStatsRequest, v1::WatchVmStatsResponse> watch_vm_stats;
  FakeStream<v1::WalkRangeRequest, v1::WalkRangeResponse> walk_range;
  // Each message with its answer.
  FakeUnary<v1::StreamOperationsRequest, v1::StreamOperationsResponse>
      stream_operations;
  FakeStream<v1::WatchEventsRequest, v1::WatchEventsResponse> watch_events;
  FakeUnary<v1::ListWaitingAccessesRequest, v1::ListWaitingAccessesResponse>
      list_waiting_accesses;
  FakeUnary<v1::ResolveAccessRequest, v1::ResolveAccessResponse> resolve_access;
  FakeStream<v1::ReadGuestMemoryRequest, v1::ReadGuestMemoryResponse>
      read_memory;
  // The request is all messages of the stream.
  FakeUnary<std::vector<v1::WriteGuestMemoryRequest>,
            v1::WriteGuestMemoryResponse>
      write_memory;
  FakeUnary<v1::DiscardRangeRequest, v1::DiscardRangeResponse> discard_range;
  FakeUnary<v1::EstimateWorkingSetRequest, v1::EstimateWorkingSetResponse>
      estimate_working_set;
  FakeStream<v1::WatchWorkingSetRequest, v1::WatchWorkingSetResponse>
      watch_working_set;

 private:
  class Server;

  std::string directory_;
  std::string target_;
  std::unique_ptr<Server> server_;
};

}  // namespace tdp::client

#endif  // CLIENT_TESTING_FAKE_SERVER_H_
