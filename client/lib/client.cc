#include "client/lib/client.h"

#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/lib/audit_sum.h"
#include "client/lib/call_error.h"
#include "client/lib/ranged_call.h"
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

constexpr int kPageSize = 1000;
constexpr size_t kWriteChunkBytes = size_t{256} << 10;
constexpr int kMaxResponseBytes = 16 << 20;
constexpr int kDefaultMaxDivergences = 100;

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file || text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsFor(
    const Target& target) {
  if (target.insecure || IsUnixTarget(target)) {
    return grpc::InsecureChannelCredentials();
  }
  const auto ca = ReadPem(target.tls_ca);
  if (!ca.ok()) return ca.status();
  const auto cert = ReadPem(target.tls_cert);
  if (!cert.ok()) return cert.status();
  const auto key = ReadPem(target.tls_key);
  if (!key.ok()) return key.status();
  return grpc::SslCredentials({*ca, *key, *cert});
}

}  // namespace

// The channel with its stubs, and the shapes of calls.
class Client::Connection {
 public:
  Connection(std::string address, std::optional<absl::Duration> timeout,
             const std::shared_ptr<grpc::Channel>& channel)
      : info(v1::InfoService::NewStub(channel)),
        vm(v1::VmService::NewStub(channel)),
        memslot(v1::MemslotService::NewStub(channel)),
        vcpu(v1::VcpuService::NewStub(channel)),
        mmu(v1::MmuService::NewStub(channel)),
        stats(v1::StatsService::NewStub(channel)),
        event(v1::EventService::NewStub(channel)),
        memory(v1::GuestMemoryService::NewStub(channel)),
        address_(std::move(address)),
        timeout_(timeout) {}

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Unary(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context, timeout_.value_or(kDefaultTimeout));
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return ToStatus(status);
    return response;
  }

  // Joins the pages of a list; `items` names its repeated field.
  template <typename Stub, typename Request, typename Response, typename Items>
  absl::StatusOr<Response> List(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      Request request, Items items) {
    Response all;
    request.set_page_size(kPageSize);
    do {
      auto page = Unary(stub, method, request);
      if (!page.ok()) return page.status();
      for (auto& item : *items(*page)) *items(all)->Add() = std::move(item);
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    return all;
  }

  template <typename Stub, typename Request, typename Response>
  absl::Status Stream(Stub& stub,
                      std::unique_ptr<grpc::ClientReader<Response>> (
                          Stub::*method)(grpc::ClientContext*, const Request&),
                      const Request& request, OnMessage<Response> on_message) {
    grpc::ClientContext context;
    SetDeadline(context, timeout_.value_or(absl::InfiniteDuration()));
    const auto reader = (stub.*method)(&context, request);
    Response response;
    while (reader->Read(&response)) {
      if (on_message(response)) continue;
      context.TryCancel();
      while (reader->Read(&response)) {
      }
      reader->Finish();
      return absl::OkStatus();
    }
    const grpc::Status status = reader->Finish();
    return status.ok() ? absl::OkStatus() : ToStatus(status);
  }

  absl::StatusOr<v1::WriteGuestMemoryResponse> Write(const std::string& vm_name,
                                                     uint64_t gpa,
                                                     std::istream& bytes) {
    grpc::ClientContext context;
    SetDeadline(context, timeout_.value_or(absl::InfiniteDuration()));
    v1::WriteGuestMemoryResponse response;
    const auto writer = memory->WriteGuestMemory(&context, &response);
    v1::WriteGuestMemoryRequest request;
    request.set_vm(vm_name);
    request.set_gpa(gpa);
    bool open = true;
    do {
      std::string& data = *request.mutable_data();
      data.resize(kWriteChunkBytes);
      bytes.read(data.data(), data.size());
      data.resize(bytes.gcount());
      if (bytes.bad()) {
        context.TryCancel();
        writer->Finish();
        return absl::DataLossError("the input could not be read to its end");
      }
      open = writer->Write(request);
      request.set_gpa(request.gpa() + data.size());
      request.clear_vm();
    } while (open && bytes);
    if (open) writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (!status.ok()) return ToStatus(status);
    return response;
  }

  const std::unique_ptr<v1::InfoService::Stub> info;
  const std::unique_ptr<v1::VmService::Stub> vm;
  const std::unique_ptr<v1::MemslotService::Stub> memslot;
  const std::unique_ptr<v1::VcpuService::Stub> vcpu;
  const std::unique_ptr<v1::MmuService::Stub> mmu;
  const std::unique_ptr<v1::StatsService::Stub> stats;
  const std::unique_ptr<v1::EventService::Stub> event;
  const std::unique_ptr<v1::GuestMemoryService::Stub> memory;

 private:
  static void SetDeadline(grpc::ClientContext& context,
                          absl::Duration timeout) {
    if (timeout == absl::InfiniteDuration()) return;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }

  absl::Status ToStatus(const grpc::Status& status) const {
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
        absl::StartsWith(status.error_message(), "failed to connect")) {
      return absl::UnavailableError(absl::StrCat(
          "cannot reach tdpd at ", address_, " (", status.error_message(),
          "); start it, ",
          absl::StartsWith(address_, "unix:") ? "" : "check the TLS flags, ",
          "or name another with --target or TDPD_TARGET"));
    }
    return MakeCallError(status.error_code(), status.error_message(),
                         status.error_details());
  }

  const std::string address_;
  const std::optional<absl::Duration> timeout_;
};

absl::StatusOr<std::unique_ptr<Client>> Client::Create(
    const Target& target, std::optional<absl::Duration> timeout) {
  const absl::Status checked = CheckTarget(target);
  if (!checked.ok()) return checked;
  const auto credentials = CredentialsFor(target);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxResponseBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (!target.tls_name.empty()) {
    arguments.SetSslTargetNameOverride(target.tls_name);
  }
  return std::unique_ptr<Client>(new Client(std::make_unique<Connection>(
      target.address, timeout,
      grpc::CreateCustomChannel(target.address, *credentials, arguments))));
}

Client::Client(std::unique_ptr<Connection> connection)
    : connection_(std::move(connection)) {}

Client::~Client() = default;

absl::StatusOr<v1::GetInfoResponse> Client::GetInfo() {
  return connection_->Unary(*connection_->info, &v1::InfoService::Stub::GetInfo,
                            v1::GetInfoRequest());
}

absl::StatusOr<v1::CreateVmResponse> Client::CreateVm(
    const v1::CreateVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::CreateVm,
                            request);
}

absl::StatusOr<v1::GetVmResponse> Client::GetVm(
    const v1::GetVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::GetVm,
                            request);
}

absl::StatusOr<v1::ListVmsResponse> Client::ListVms() {
  return connection_->List(
      *connection_->vm, &v1::VmService::Stub::ListVms, v1::ListVmsRequest(),
      [](v1::ListVmsResponse& page) { return page.mutable_vms(); });
}

absl::StatusOr<v1::DeleteVmResponse> Client::DeleteVm(
    const v1::DeleteVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::DeleteVm,
                            request);
}

absl::StatusOr<v1::StartVmResponse> Client::StartVm(
    const v1::StartVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::StartVm,
                            request);
}

absl::StatusOr<v1::PauseVmResponse> Client::PauseVm(
    const v1::PauseVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::PauseVm,
                            request);
}

absl::StatusOr<v1::ResumeVmResponse> Client::ResumeVm(
    const v1::ResumeVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::ResumeVm,
                            request);
}

absl::StatusOr<v1::StopVmResponse> Client::StopVm(
    const v1::StopVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::StopVm,
                            request);
}

absl::StatusOr<v1::CreateMemslotResponse> Client::CreateMemslot(
    const v1::CreateMemslotRequest& request) {
  return connection_->Unary(*connection_->memslot,
                            &v1::MemslotService::Stub::CreateMemslot, request);
}

absl::StatusOr<v1::GetMemslotResponse> Client::GetMemslot(
    const v1::GetMemslotRequest& request) {
  return connection_->Unary(*connection_->memslot,
                            &v1::MemslotService::Stub::GetMemslot, request);
}

absl::StatusOr<v1::ListMemslotsResponse> Client::ListMemslots(
    const std::string& vm_name) {
  v1::ListMemslotsRequest request;
  request.set_parent(vm_name);
  return connection_->List(
      *connection_->memslot, &v1::MemslotService::Stub::ListMemslots, request,
      [](v1::ListMemslotsResponse& page) { return page.mutable_memslots(); });
}

absl::StatusOr<v1::DeleteMemslotResponse> Client::DeleteMemslot(
    const v1::DeleteMemslotRequest& request) {
  return connection_->Unary(*connection_->memslot,
                            &v1::MemslotService::Stub::DeleteMemslot, request);
}

absl::StatusOr<v1::LoadGuestResponse> Client::LoadGuest(
    const v1::LoadGuestRequest& request) {
  return connection_->Unary(*connection_->vcpu,
                            &v1::VcpuService::Stub::LoadGuest, request);
}

absl::StatusOr<v1::GetVcpuResponse> Client::GetVcpu(
    const v1::GetVcpuRequest& request) {
  return connection_->Unary(*connection_->vcpu, &v1::VcpuService::Stub::GetVcpu,
                            request);
}

absl::StatusOr<v1::ListVcpusResponse> Client::ListVcpus(
    const std::string& vm_name) {
  v1::ListVcpusRequest request;
  request.set_parent(vm_name);
  return connection_->List(
      *connection_->vcpu, &v1::VcpuService::Stub::ListVcpus, request,
      [](v1::ListVcpusResponse& page) { return page.mutable_vcpus(); });
}

absl::StatusOr<v1::WaitVcpuResponse> Client::WaitVcpu(
    const v1::WaitVcpuRequest& request) {
  return connection_->Unary(*connection_->vcpu,
                            &v1::VcpuService::Stub::WaitVcpu, request);
}

absl::StatusOr<v1::MapRangeResponse> Client::MapRange(
    const v1::MapRangeRequest& request) {
  v1::MapRangeResponse sum;
  const absl::Status status = CallUntilEnd(
      request,
      [&](const v1::MapRangeRequest& part) {
        return connection_->Unary(*connection_->mmu,
                                  &v1::MmuService::Stub::MapRange, part);
      },
      [&](const v1::MapRangeResponse& part) {
        sum.set_next_gfn(part.next_gfn());
        sum.set_mapped_frame_count(sum.mapped_frame_count() +
                                   part.mapped_frame_count());
      });
  if (!status.ok()) return status;
  return sum;
}

absl::StatusOr<v1::ZapRangeResponse> Client::ZapRange(
    const v1::ZapRangeRequest& request) {
  v1::ZapRangeResponse sum;
  const absl::Status status = CallUntilEnd(
      request,
      [&](const v1::ZapRangeRequest& part) {
        return connection_->Unary(*connection_->mmu,
                                  &v1::MmuService::Stub::ZapRange, part);
      },
      [&](const v1::ZapRangeResponse& part) {
        sum.set_next_gfn(part.next_gfn());
        sum.set_zapped_frame_count(sum.zapped_frame_count() +
                                   part.zapped_frame_count());
      });
  if (!status.ok()) return status;
  return sum;
}

absl::StatusOr<v1::AuditRangeResponse> Client::AuditRange(
    const v1::AuditRangeRequest& request) {
  const int limit = request.max_divergences() > 0 ? request.max_divergences()
                                                  : kDefaultMaxDivergences;
  v1::AuditRangeResponse sum;
  const absl::Status status = CallUntilEnd(
      request,
      [&](const v1::AuditRangeRequest& part) {
        return connection_->Unary(*connection_->mmu,
                                  &v1::MmuService::Stub::AuditRange, part);
      },
      [&](const v1::AuditRangeResponse& part) { AddAudit(part, limit, sum); });
  if (!status.ok()) return status;
  return sum;
}

absl::StatusOr<v1::ZapAllResponse> Client::ZapAll(
    const v1::ZapAllRequest& request) {
  return connection_->Unary(*connection_->mmu, &v1::MmuService::Stub::ZapAll,
                            request);
}

absl::StatusOr<v1::WalkGfnResponse> Client::WalkGfn(
    const v1::WalkGfnRequest& request) {
  return connection_->Unary(*connection_->mmu, &v1::MmuService::Stub::WalkGfn,
                            request);
}

absl::Status Client::WalkRange(const v1::WalkRangeRequest& request,
                               OnMessage<v1::WalkRangeResponse> on_message) {
  return connection_->Stream(
      *connection_->mmu, &v1::MmuService::Stub::WalkRange, request, on_message);
}

absl::StatusOr<v1::GetVmStatsResponse> Client::GetVmStats(
    const v1::GetVmStatsRequest& request) {
  return connection_->Unary(*connection_->stats,
                            &v1::StatsService::Stub::GetVmStats, request);
}

absl::Status Client::WatchEvents(
    const v1::WatchEventsRequest& request,
    OnMessage<v1::WatchEventsResponse> on_message) {
  return connection_->Stream(*connection_->event,
                             &v1::EventService::Stub::WatchEvents, request,
                             on_message);
}

absl::Status Client::ReadGuestMemory(
    const v1::ReadGuestMemoryRequest& request,
    OnMessage<v1::ReadGuestMemoryResponse> on_message) {
  return connection_->Stream(*connection_->memory,
                             &v1::GuestMemoryService::Stub::ReadGuestMemory,
                             request, on_message);
}

absl::StatusOr<v1::WriteGuestMemoryResponse> Client::WriteGuestMemory(
    const std::string& vm_name, uint64_t gpa, std::istream& bytes) {
  return connection_->Write(vm_name, gpa, bytes);
}

}  // namespace tdp::client
