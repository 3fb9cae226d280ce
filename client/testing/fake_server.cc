#include "client/testing/fake_server.h"

#include <grpcpp/grpcpp.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <cassert>

#include "tdp/v1/error.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::client {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  v1::RpcStatus details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    google::protobuf::Any* any = details.add_details();
    any->set_type_url(std::string(url));
    any->set_value(std::string(payload));
  });
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message()),
      details.details().empty() ? "" : details.SerializeAsString());
}

// What the services share: where the methods are, and the last deadline.
struct Shared {
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
  explicit FakeInfoService(Shared& shared) : shared_(shared) {}

  grpc::Status GetInfo(grpc::ServerContext* context,
                       const v1::GetInfoRequest* request,
                       v1::GetInfoResponse* response) override {
    return shared_.Unary(shared_.fake.get_info, *context, *request, *response);
  }

 private:
  Shared& shared_;
};

class FakeVmService final : public v1::VmService::Service {
 public:
  explicit FakeVmService(Shared& shared) : shared_(shared) {}

  grpc::Status CreateVm(grpc::ServerContext* context,
                        const v1::CreateVmRequest* request,
                        v1::CreateVmResponse* response) override {
    return shared_.Unary(shared_.fake.create_vm, *context, *request, *response);
  }
  grpc::Status GetVm(grpc::ServerContext* context,
                     const v1::GetVmRequest* request,
                     v1::GetVmResponse* response) override {
    return shared_.Unary(shared_.fake.get_vm, *context, *request, *response);
  }
  grpc::Status ListVms(grpc::ServerContext* context,
                       const v1::ListVmsRequest* request,
                       v1::ListVmsResponse* response) override {
    return shared_.Unary(shared_.fake.list_vms, *context, *request, *response);
  }
  grpc::Status UpdateVm(grpc::ServerContext* context,
                        const v1::UpdateVmRequest* request,
                        v1::UpdateVmResponse* response) override {
    return shared_.Unary(shared_.fake.update_vm, *context, *request, *response);
  }
  grpc::Status DeleteVm(grpc::ServerContext* context,
                        const v1::DeleteVmRequest* request,
                        v1::DeleteVmResponse* response) override {
    return shared_.Unary(shared_.fake.delete_vm, *context, *request, *response);
  }
  grpc::Status StartVm(grpc::ServerContext* context,
                       const v1::StartVmRequest* request,
                       v1::StartVmResponse* response) override {
    return shared_.Unary(shared_.fake.start_vm, *context, *request, *response);
  }
  grpc::Status PauseVm(grpc::ServerContext* context,
                       const v1::PauseVmRequest* request,
                       v1::PauseVmResponse* response) override {
    return shared_.Unary(shared_.fake.pause_vm, *context, *request, *response);
  }
  grpc::Status ResumeVm(grpc::ServerContext* context,
                        const v1::ResumeVmRequest* request,
                        v1::ResumeVmResponse* response) override {
    return shared_.Unary(shared_.fake.resume_vm, *context, *request, *response);
  }
  grpc::Status StopVm(grpc::ServerContext* context,
                      const v1::StopVmRequest* request,
                      v1::StopVmResponse* response) override {
    return shared_.Unary(shared_.fake.stop_vm, *context, *request, *response);
  }

 private:
  Shared& shared_;
};

class FakeMemslotService final : public v1::MemslotService::Service {
 public:
  explicit FakeMemslotService(Shared& shared) : shared_(shared) {}

  grpc::Status CreateMemslot(grpc::ServerContext* context,
                             const v1::CreateMemslotRequest* request,
                             v1::CreateMemslotResponse* response) override {
    return shared_.Unary(shared_.fake.create_memslot, *context, *request,
                         *response);
  }
  grpc::Status GetMemslot(grpc::ServerContext* context,
                          const v1::GetMemslotRequest* request,
                          v1::GetMemslotResponse* response) override {
    return shared_.Unary(shared_.fake.get_memslot, *context, *request,
                         *response);
  }
  grpc::Status ListMemslots(grpc::ServerContext* context,
                            const v1::ListMemslotsRequest* request,
                            v1::ListMemslotsResponse* response) override {
    return shared_.Unary(shared_.fake.list_memslots, *context, *request,
                         *response);
  }
  grpc::Status UpdateMemslot(grpc::ServerContext* context,
                             const v1::UpdateMemslotRequest* request,
                             v1::UpdateMemslotResponse* response) override {
    return shared_.Unary(shared_.fake.update_memslot, *context, *request,
                         *response);
  }
  grpc::Status DeleteMemslot(grpc::ServerContext* context,
                             const v1::DeleteMemslotRequest* request,
                             v1::DeleteMemslotResponse* response) override {
    return shared_.Unary(shared_.fake.delete_memslot, *context, *request,
                         *response);
  }

 private:
  Shared& shared_;
};

class FakeVcpuService final : public v1::VcpuService::Service {
 public:
  explicit FakeVcpuService(Shared& shared) : shared_(shared) {}

  grpc::Status LoadGuest(grpc::ServerContext* context,
                         const v1::LoadGuestRequest* request,
                         v1::LoadGuestResponse* response) override {
    return shared_.Unary(shared_.fake.load_guest, *context, *request,
                         *response);
  }
  grpc::Status GetVcpu(grpc::ServerContext* context,
                       const v1::GetVcpuRequest* request,
                       v1::GetVcpuResponse* response) override {
    return shared_.Unary(shared_.fake.get_vcpu, *context, *request, *response);
  }
  grpc::Status ListVcpus(grpc::ServerContext* context,
                         const v1::ListVcpusRequest* request,
                         v1::ListVcpusResponse* response) override {
    return shared_.Unary(shared_.fake.list_vcpus, *context, *request,
                         *response);
  }
  grpc::Status WaitVcpu(grpc::ServerContext* context,
                        const v1::WaitVcpuRequest* request,
                        v1::WaitVcpuResponse* response) override {
    return shared_.Unary(shared_.fake.wait_vcpu, *context, *request, *response);
  }

 private:
  Shared& shared_;
};

class FakeMmuService final : public v1::MmuService::Service {
 public:
  explicit FakeMmuService(Shared& shared) : shared_(shared) {}

  grpc::Status MapRange(grpc::ServerContext* context,
                        const v1::MapRangeRequest* request,
                        v1::MapRangeResponse* response) override {
    return shared_.Unary(shared_.fake.map_range, *context, *request, *response);
  }
  grpc::Status ZapRange(grpc::ServerContext* context,
                        const v1::ZapRangeRequest* request,
                        v1::ZapRangeResponse* response) override {
    return shared_.Unary(shared_.fake.zap_range, *context, *request, *response);
  }
  grpc::Status ZapAll(grpc::ServerContext* context,
                      const v1::ZapAllRequest* request,
                      v1::ZapAllResponse* response) override {
    return shared_.Unary(shared_.fake.zap_all, *context, *request, *response);
  }
  grpc::Status ProtectRange(grpc::ServerContext* context,
                            const v1::ProtectRangeRequest* request,
                            v1::ProtectRangeResponse* response) override {
    return shared_.Unary(shared_.fake.protect_range, *context, *request,
                         *response);
  }
  grpc::Status WriteProtectRange(
      grpc::ServerContext* context, const v1::WriteProtectRangeRequest* request,
      v1::WriteProtectRangeResponse* response) override {
    return shared_.Unary(shared_.fake.write_protect_range, *context, *request,
                         *response);
  }
  grpc::Status SplitHugePages(grpc::ServerContext* context,
                              const v1::SplitHugePagesRequest* request,
                              v1::SplitHugePagesResponse* response) override {
    return shared_.Unary(shared_.fake.split_huge_pages, *context, *request,
                         *response);
  }
  grpc::Status CollapseHugePages(
      grpc::ServerContext* context, const v1::CollapseHugePagesRequest* request,
      v1::CollapseHugePagesResponse* response) override {
    return shared_.Unary(shared_.fake.collapse_huge_pages, *context, *request,
                         *response);
  }
  grpc::Status AgeRange(grpc::ServerContext* context,
                        const v1::AgeRangeRequest* request,
                        v1::AgeRangeResponse* response) override {
    return shared_.Unary(shared_.fake.age_range, *context, *request, *response);
  }
  grpc::Status ApplyBatch(grpc::ServerContext* context,
                          const v1::ApplyBatchRequest* request,
                          v1::ApplyBatchResponse* response) override {
    return shared_.Unary(shared_.fake.apply_batch, *context, *request,
                         *response);
  }
  grpc::Status WalkGfn(grpc::ServerContext* context,
                       const v1::WalkGfnRequest* request,
                       v1::WalkGfnResponse* response) override {
    return shared_.Unary(shared_.fake.walk_gfn, *context, *request, *response);
  }
  grpc::Status AuditRange(grpc::ServerContext* context,
                          const v1::AuditRangeRequest* request,
                          v1::AuditRangeResponse* response) override {
    return shared_.Unary(shared_.fake.audit_range, *context, *request,
                         *response);
  }
  grpc::Status WalkRange(
      grpc::ServerContext* context, const v1::WalkRangeRequest* request,
      grpc::ServerWriter<v1::WalkRangeResponse>* writer) override {
    return shared_.Stream(shared_.fake.walk_range, *context, *request, *writer);
  }

 private:
  Shared& shared_;
};

class FakeStatsService final : public v1::StatsService::Service {
 public:
  explicit FakeStatsService(Shared& shared) : shared_(shared) {}

  grpc::Status GetVmStats(grpc::ServerContext* context,
                          const v1::GetVmStatsRequest* request,
                          v1::GetVmStatsResponse* response) override {
    return shared_.Unary(shared_.fake.get_vm_stats, *context, *request,
                         *response);
  }

 private:
  Shared& shared_;
};

class FakeEventService final : public v1::EventService::Service {
 public:
  explicit FakeEventService(Shared& shared) : shared_(shared) {}

  grpc::Status WatchEvents(
      grpc::ServerContext* context, const v1::WatchEventsRequest* request,
      grpc::ServerWriter<v1::WatchEventsResponse>* writer) override {
    return shared_.Stream(shared_.fake.watch_events, *context, *request,
                          *writer);
  }

 private:
  Shared& shared_;
};

class FakeGuestMemoryService final : public v1::GuestMemoryService::Service {
 public:
  explicit FakeGuestMemoryService(Shared& shared) : shared_(shared) {}

  grpc::Status ReadGuestMemory(
      grpc::ServerContext* context, const v1::ReadGuestMemoryRequest* request,
      grpc::ServerWriter<v1::ReadGuestMemoryResponse>* writer) override {
    return shared_.Stream(shared_.fake.read_memory, *context, *request,
                          *writer);
  }
  grpc::Status WriteGuestMemory(
      grpc::ServerContext* context,
      grpc::ServerReader<v1::WriteGuestMemoryRequest>* reader,
      v1::WriteGuestMemoryResponse* response) override {
    std::vector<v1::WriteGuestMemoryRequest> requests;
    v1::WriteGuestMemoryRequest request;
    while (reader->Read(&request)) requests.push_back(request);
    return shared_.Unary(shared_.fake.write_memory, *context, requests,
                         *response);
  }

 private:
  Shared& shared_;
};

}  // namespace

absl::Status DaemonError(absl::StatusCode code, const std::string& message,
                         const std::string& reason,
                         const std::map<std::string, std::string>& metadata) {
  v1::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("tdp.v1");
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  absl::Status status(code, message);
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

class FakeServer::Server {
 public:
  Server(FakeServer& fake, const std::string& target) : shared{fake} {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(target, grpc::InsecureServerCredentials());
    for (grpc::Service* service : std::initializer_list<grpc::Service*>{
             &info_, &vm_, &memslot_, &vcpu_, &mmu_, &stats_, &event_,
             &memory_}) {
      builder.RegisterService(service);
    }
    server_ = builder.BuildAndStart();
    assert(server_ != nullptr);
  }
  ~Server() { server_->Shutdown(std::chrono::system_clock::now()); }

  Shared shared;

 private:
  FakeInfoService info_{shared};
  FakeVmService vm_{shared};
  FakeMemslotService memslot_{shared};
  FakeVcpuService vcpu_{shared};
  FakeMmuService mmu_{shared};
  FakeStatsService stats_{shared};
  FakeEventService event_{shared};
  FakeGuestMemoryService memory_{shared};
  std::unique_ptr<grpc::Server> server_;
};

FakeServer::FakeServer() {
  char directory[] = "/tmp/tdpctl_test_XXXXXX";
  const char* made = mkdtemp(directory);
  assert(made != nullptr);
  directory_ = made;
  target_ = "unix:" + directory_ + "/socket";
  server_ = std::make_unique<Server>(*this, target_);
}

FakeServer::~FakeServer() {
  server_.reset();
  unlink((directory_ + "/socket").c_str());
  rmdir(directory_.c_str());
}

absl::Duration FakeServer::last_timeout() const {
  const int64_t ns = server_->shared.last_timeout_ns;
  return ns == std::numeric_limits<int64_t>::max() ? absl::InfiniteDuration()
                                                   : absl::Nanoseconds(ns);
}

}  // namespace tdp::client
