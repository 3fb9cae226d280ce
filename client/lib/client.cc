#include "client/lib/client.h"

#include <utility>

#include "client/lib/channel.h"
#include "client/lib/connection.h"

namespace tdp::client {

absl::StatusOr<std::unique_ptr<Client>> Client::Create(
    const Target& target, const ClientOptions& options) {
  const auto channel = MakeChannel(target);
  if (!channel.ok()) return channel.status();
  return std::unique_ptr<Client>(new Client(
      std::make_unique<Connection>(target.address, options, *channel)));
}

Client::Client(std::unique_ptr<Connection> connection)
    : connection_(std::move(connection)) {}

Client::~Client() = default;

std::unique_ptr<Client> Client::WithDeadline(absl::Time deadline) const {
  return std::unique_ptr<Client>(
      new Client(connection_->WithDeadline(deadline)));
}

void Client::SetDefaultTimeout(absl::Duration timeout) {
  connection_->SetDefaultTimeout(timeout);
}

absl::StatusOr<v1::GetInfoResponse> Client::GetInfo() {
  return connection_->Unary(*connection_->info, &v1::InfoService::Stub::GetInfo,
                            v1::GetInfoRequest());
}

absl::StatusOr<v1::CreateVmResponse> Client::CreateVm(
    const v1::CreateVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::CreateVm,
                            connection_->Repeatable(request));
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

absl::StatusOr<v1::UpdateVmResponse> Client::UpdateVm(
    const v1::UpdateVmRequest& request) {
  return connection_->Unary(*connection_->vm, &v1::VmService::Stub::UpdateVm,
                            request);
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
                            &v1::MemslotService::Stub::CreateMemslot,
                            connection_->Repeatable(request));
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

absl::StatusOr<v1::UpdateMemslotResponse> Client::UpdateMemslot(
    const v1::UpdateMemslotRequest& request) {
  return connection_->Unary(*connection_->memslot,
                            &v1::MemslotService::Stub::UpdateMemslot, request);
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

absl::StatusOr<v1::GetVmStatsResponse> Client::GetVmStats(
    const v1::GetVmStatsRequest& request) {
  return connection_->Unary(*connection_->stats,
                            &v1::StatsService::Stub::GetVmStats, request);
}

absl::Status Client::WatchVmStats(
    const v1::WatchVmStatsRequest& request,
    OnMessage<v1::WatchVmStatsResponse> on_message) {
  return connection_->Stream(*connection_->stats,
                             &v1::StatsService::Stub::WatchVmStats, request,
                             on_message);
}

absl::Status Client::WatchEvents(
    const v1::WatchEventsRequest& request,
    OnMessage<v1::WatchEventsResponse> on_message) {
  return connection_->Stream(*connection_->event,
                             &v1::EventService::Stub::WatchEvents, request,
                             on_message);
}

absl::StatusOr<v1::ListWaitingAccessesResponse> Client::ListWaitingAccesses(
    const std::string& vm_name) {
  v1::ListWaitingAccessesRequest request;
  request.set_vm(vm_name);
  return connection_->List(*connection_->event,
                           &v1::EventService::Stub::ListWaitingAccesses,
                           request, [](v1::ListWaitingAccessesResponse& page) {
                             return page.mutable_accesses();
                           });
}

absl::StatusOr<v1::ResolveAccessResponse> Client::ResolveAccess(
    const v1::ResolveAccessRequest& request) {
  return connection_->Unary(*connection_->event,
                            &v1::EventService::Stub::ResolveAccess, request);
}

absl::StatusOr<v1::EstimateWorkingSetResponse> Client::EstimateWorkingSet(
    const v1::EstimateWorkingSetRequest& request) {
  return connection_->Unary(*connection_->working_set,
                            &v1::WorkingSetService::Stub::EstimateWorkingSet,
                            request);
}

absl::Status Client::WatchWorkingSet(
    const v1::WatchWorkingSetRequest& request,
    OnMessage<v1::WatchWorkingSetResponse> on_message) {
  return connection_->Stream(*connection_->working_set,
                             &v1::WorkingSetService::Stub::WatchWorkingSet,
                             request, on_message);
}

absl::Status Client::ReadGuestMemory(
    const v1::ReadGuestMemoryRequest& request,
    OnMessage<v1::ReadGuestMemoryResponse> on_message) {
  return connection_->Stream(*connection_->memory,
                             &v1::GuestMemoryService::Stub::ReadGuestMemory,
                             request, on_message);
}

absl::StatusOr<v1::WriteGuestMemoryResponse> Client::WriteGuestMemory(
    const std::string& vm_name, uint64_t gpa, std::istream& bytes,
    OnBytes on_bytes) {
  return connection_->Write(vm_name, gpa, bytes, on_bytes);
}

absl::StatusOr<v1::DiscardRangeResponse> Client::DiscardRange(
    const v1::DiscardRangeRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->memory, &v1::GuestMemoryService::Stub::DiscardRange,
      request, &v1::DiscardRangeResponse::freed_bytes,
      &v1::DiscardRangeResponse::set_freed_bytes, on_frame);
}

}  // namespace tdp::client
