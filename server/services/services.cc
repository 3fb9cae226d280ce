#include "server/services/services.h"

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/services/operation_stream.h"
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

namespace tdp::server {
namespace {

constexpr Role kNone = Role::kNone;
constexpr Role kObserver = Role::kObserver;
constexpr Role kOperator = Role::kOperator;
constexpr Role kAdmin = Role::kAdmin;
constexpr RunOn kShort = RunOn::kPoller;
constexpr RunOn kLong = RunOn::kExecutor;
constexpr RunOn kBulk = RunOn::kBulk;

}  // namespace

Services::Services(VmRegistry& registry, Executor& executor)
    : info_(registry),
      vm_(registry, requests_),
      vcpu_(registry, executor),
      memslot_(registry, requests_),
      mmu_(registry),
      guest_memory_(registry),
      stats_(registry),
      event_(registry),
      dirty_log_(registry),
      working_set_(registry, executor) {}

void Services::AddTo(RpcServer& server) {
  AddInfo(server);
  AddVm(server);
  AddVcpu(server);
  AddMemslot(server);
  AddMmu(server);
  AddGuestMemory(server);
  AddStats(server);
  AddEvent(server);
  AddDirtyLog(server);
  AddWorkingSet(server);
  AddHealth(server);
  AddReflection(server);
  health_.SetServices(server.service_names());
  reflection_.SetServices(server.service_names());
  reflection_alpha_.SetServices(server.service_names());
}

void Services::AddInfo(RpcServer& server) {
  using S = v1::InfoService::AsyncService;
  S& s = server.AddService<v1::InfoService>();
  server.Unary(s, {"InfoService.GetInfo", kObserver, kShort},
               &S::RequestGetInfo, &info_, &InfoHandler::GetInfo);
}

void Services::AddVm(RpcServer& server) {
  using S = v1::VmService::AsyncService;
  S& s = server.AddService<v1::VmService>();
  server.Unary(s, {"VmService.CreateVm", kAdmin, kLong}, &S::RequestCreateVm,
               &vm_, &VmHandler::CreateVm);
  server.Unary(s, {"VmService.GetVm", kObserver, kShort}, &S::RequestGetVm,
               &vm_, &VmHandler::GetVm);
  server.Unary(s, {"VmService.ListVms", kObserver, kShort}, &S::RequestListVms,
               &vm_, &VmHandler::ListVms);
  server.Unary(s, {"VmService.UpdateVm", kOperator, kShort},
               &S::RequestUpdateVm, &vm_, &VmHandler::UpdateVm);
  server.Unary(s, {"VmService.DeleteVm", kAdmin, kLong}, &S::RequestDeleteVm,
               &vm_, &VmHandler::DeleteVm);
  server.Unary(s, {"VmService.StartVm", kOperator, kLong}, &S::RequestStartVm,
               &vm_, &VmHandler::StartVm);
  server.Unary(s, {"VmService.PauseVm", kOperator, kLong}, &S::RequestPauseVm,
               &vm_, &VmHandler::PauseVm);
  server.Unary(s, {"VmService.ResumeVm", kOperator, kLong}, &S::RequestResumeVm,
               &vm_, &VmHandler::ResumeVm);
  server.Unary(s, {"VmService.StopVm", kOperator, kLong}, &S::RequestStopVm,
               &vm_, &VmHandler::StopVm);
}

void Services::AddVcpu(RpcServer& server) {
  using S = v1::VcpuService::AsyncService;
  S& s = server.AddService<v1::VcpuService>();
  server.Unary(s, {"VcpuService.LoadGuest", kAdmin, kLong},
               &S::RequestLoadGuest, &vcpu_, &VcpuHandler::LoadGuest);
  server.Unary(s, {"VcpuService.GetVcpu", kObserver, kShort},
               &S::RequestGetVcpu, &vcpu_, &VcpuHandler::GetVcpu);
  server.Unary(s, {"VcpuService.ListVcpus", kObserver, kShort},
               &S::RequestListVcpus, &vcpu_, &VcpuHandler::ListVcpus);
  server.DeferredUnary(s, {"VcpuService.WaitVcpu", kObserver, kLong},
                       &S::RequestWaitVcpu, &vcpu_, &VcpuHandler::WaitVcpu);
}

void Services::AddMemslot(RpcServer& server) {
  using S = v1::MemslotService::AsyncService;
  S& s = server.AddService<v1::MemslotService>();
  server.Unary(s, {"MemslotService.CreateMemslot", kAdmin, kLong},
               &S::RequestCreateMemslot, &memslot_,
               &MemslotHandler::CreateMemslot);
  server.Unary(s, {"MemslotService.GetMemslot", kObserver, kShort},
               &S::RequestGetMemslot, &memslot_, &MemslotHandler::GetMemslot);
  server.Unary(s, {"MemslotService.ListMemslots", kObserver, kShort},
               &S::RequestListMemslots, &memslot_,
               &MemslotHandler::ListMemslots);
  server.Unary(s, {"MemslotService.UpdateMemslot", kAdmin, kLong},
               &S::RequestUpdateMemslot, &memslot_,
               &MemslotHandler::UpdateMemslot);
  server.Unary(s, {"MemslotService.DeleteMemslot", kAdmin, kLong},
               &S::RequestDeleteMemslot, &memslot_,
               &MemslotHandler::DeleteMemslot);
}

void Services::AddMmu(RpcServer& server) {
  using S = v1::MmuService::AsyncService;
  S& s = server.AddService<v1::MmuService>();
  server.Unary(s, {"MmuService.MapRange", kOperator, kBulk},
               &S::RequestMapRange, &mmu_, &MmuHandler::MapRange);
  server.Unary(s, {"MmuService.ZapRange", kOperator, kBulk},
               &S::RequestZapRange, &mmu_, &MmuHandler::ZapRange);
  server.Unary(s, {"MmuService.ZapAll", kOperator, kBulk}, &S::RequestZapAll,
               &mmu_, &MmuHandler::ZapAll);
  server.Unary(s, {"MmuService.WalkGfn", kObserver, kShort}, &S::RequestWalkGfn,
               &mmu_, &MmuHandler::WalkGfn);
  server.ServerStream(s, {"MmuService.WalkRange", kObserver, kBulk},
                      &S::RequestWalkRange, &mmu_, &MmuHandler::WalkRange);
  server.Unary(s, {"MmuService.WalkFrames", kObserver, kShort},
               &S::RequestWalkFrames, &mmu_, &MmuHandler::WalkFrames,
               &MmuHandler::IsLongWalk);
  server.Unary(s, {"MmuService.AuditRange", kObserver, kBulk},
               &S::RequestAuditRange, &mmu_, &MmuHandler::AuditRange);
  server.Unary(s, {"MmuService.ProtectRange", kOperator, kBulk},
               &S::RequestProtectRange, &mmu_, &MmuHandler::ProtectRange);
  server.Unary(s, {"MmuService.WriteProtectRange", kOperator, kBulk},
               &S::RequestWriteProtectRange, &mmu_,
               &MmuHandler::WriteProtectRange);
  server.Unary(s, {"MmuService.SplitHugePages", kOperator, kBulk},
               &S::RequestSplitHugePages, &mmu_, &MmuHandler::SplitHugePages);
  server.Unary(s, {"MmuService.CollapseHugePages", kOperator, kBulk},
               &S::RequestCollapseHugePages, &mmu_,
               &MmuHandler::CollapseHugePages);
  server.Unary(s, {"MmuService.AgeRange", kOperator, kBulk},
               &S::RequestAgeRange, &mmu_, &MmuHandler::AgeRange);
  server.Unary(s, {"MmuService.ApplyBatch", kOperator, kBulk},
               &S::RequestApplyBatch, &mmu_, &MmuHandler::ApplyBatch);
  server.BidiStream(s, {"MmuService.StreamOperations", kOperator, kShort},
                    &S::RequestStreamOperations, &mmu_,
                    &MmuHandler::StreamOperations, &OperationStream::IsLong);
}

void Services::AddGuestMemory(RpcServer& server) {
  using S = v1::GuestMemoryService::AsyncService;
  S& s = server.AddService<v1::GuestMemoryService>();
  server.ServerStream(s, {"GuestMemoryService.ReadGuestMemory", kAdmin, kBulk},
                      &S::RequestReadGuestMemory, &guest_memory_,
                      &GuestMemoryHandler::ReadGuestMemory);
  server.ClientStream(s, {"GuestMemoryService.WriteGuestMemory", kAdmin, kBulk},
                      &S::RequestWriteGuestMemory, &guest_memory_,
                      &GuestMemoryHandler::WriteGuestMemory);
  server.Unary(s, {"GuestMemoryService.DiscardRange", kAdmin, kBulk},
               &S::RequestDiscardRange, &guest_memory_,
               &GuestMemoryHandler::DiscardRange);
}

void Services::AddStats(RpcServer& server) {
  using S = v1::StatsService::AsyncService;
  S& s = server.AddService<v1::StatsService>();
  server.Unary(s, {"StatsService.GetVmStats", kObserver, kShort},
               &S::RequestGetVmStats, &stats_, &StatsHandler::GetVmStats);
  server.ServerStream(s, {"StatsService.WatchVmStats", kObserver, kShort},
                      &S::RequestWatchVmStats, &stats_,
                      &StatsHandler::WatchVmStats);
}

void Services::AddEvent(RpcServer& server) {
  using S = v1::EventService::AsyncService;
  S& s = server.AddService<v1::EventService>();
  server.ServerStream(s, {"EventService.WatchEvents", kObserver, kShort},
                      &S::RequestWatchEvents, &event_,
                      &EventHandler::WatchEvents);
  server.Unary(s, {"EventService.ListWaitingAccesses", kObserver, kShort},
               &S::RequestListWaitingAccesses, &event_,
               &EventHandler::ListWaitingAccesses);
  server.Unary(s, {"EventService.ResolveAccess", kOperator, kLong},
               &S::RequestResolveAccess, &event_, &EventHandler::ResolveAccess);
}

void Services::AddDirtyLog(RpcServer& server) {
  using S = v1::DirtyLogService::AsyncService;
  S& s = server.AddService<v1::DirtyLogService>();
  server.Unary(s, {"DirtyLogService.CreateDirtyConsumer", kOperator, kLong},
               &S::RequestCreateDirtyConsumer, &dirty_log_,
               &DirtyLogHandler::CreateDirtyConsumer);
  server.Unary(s, {"DirtyLogService.ListDirtyConsumers", kObserver, kShort},
               &S::RequestListDirtyConsumers, &dirty_log_,
               &DirtyLogHandler::ListDirtyConsumers);
  server.Unary(s, {"DirtyLogService.DeleteDirtyConsumer", kOperator, kLong},
               &S::RequestDeleteDirtyConsumer, &dirty_log_,
               &DirtyLogHandler::DeleteDirtyConsumer);
  server.ServerStream(s, {"DirtyLogService.ReadDirtyLog", kObserver, kBulk},
                      &S::RequestReadDirtyLog, &dirty_log_,
                      &DirtyLogHandler::ReadDirtyLog);
  server.ClientStream(s, {"DirtyLogService.ClearDirtyLog", kOperator, kBulk},
                      &S::RequestClearDirtyLog, &dirty_log_,
                      &DirtyLogHandler::ClearDirtyLog);
}

void Services::AddWorkingSet(RpcServer& server) {
  using S = v1::WorkingSetService::AsyncService;
  S& s = server.AddService<v1::WorkingSetService>();
  server.DeferredUnary(
      s, {"WorkingSetService.EstimateWorkingSet", kOperator, kBulk},
      &S::RequestEstimateWorkingSet, &working_set_,
      &WorkingSetHandler::EstimateWorkingSet);
  server.ServerStream(s,
                      {"WorkingSetService.WatchWorkingSet", kOperator, kShort},
                      &S::RequestWatchWorkingSet, &working_set_,
                      &WorkingSetHandler::WatchWorkingSet);
}

void Services::AddHealth(RpcServer& server) {
  using S = grpc::health::v1::Health::AsyncService;
  S& s = server.AddService<grpc::health::v1::Health>();
  server.Unary(s, {"Health.Check", kNone, kShort, WhileDraining::kServe},
               &S::RequestCheck, &health_, &HealthHandler::Check);
  server.ServerStream(s, {"Health.Watch", kNone, kShort, WhileDraining::kServe},
                      &S::RequestWatch, &health_, &HealthHandler::Watch);
}

void Services::AddReflection(RpcServer& server) {
  {
    using S = grpc::reflection::v1::ServerReflection::AsyncService;
    S& s = server.AddService<grpc::reflection::v1::ServerReflection>();
    server.BidiStream(s,
                      {"ServerReflection.ServerReflectionInfo", kNone, kShort,
                       WhileDraining::kServe},
                      &S::RequestServerReflectionInfo, &reflection_,
                      &ReflectionHandler::ServerReflectionInfo);
  }
  using S = grpc::reflection::v1alpha::ServerReflection::AsyncService;
  S& s = server.AddService<grpc::reflection::v1alpha::ServerReflection>();
  server.BidiStream(s,
                    {"ServerReflection.ServerReflectionInfo", kNone, kShort,
                     WhileDraining::kServe},
                    &S::RequestServerReflectionInfo, &reflection_alpha_,
                    &ReflectionAlphaHandler::ServerReflectionInfo);
}

}  // namespace tdp::server
