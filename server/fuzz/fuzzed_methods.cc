#include "server/fuzz/fuzzed_methods.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "server/rpc/reply.h"
#include "server/rpc/stream.h"

namespace tdp::server {
namespace {

using google::protobuf::Message;

// Messages that are taken from a server stream before its client goes.
constexpr int kMaxReplies = 6;

class Table {
 public:
  Table();
  std::vector<FuzzedMethod> Take() { return std::move(methods_); }

 private:
  enum class Kind { kReads, kChanges };

  template <typename H, typename Request, typename Response>
  void Add(std::string name, Kind kind, H Handlers::* handler,
           absl::Status (H::*method)(CallContext&, const Request&, Response*)) {
    AddCall<Request>(
        std::move(name), kind, /*takes_many=*/false,
        [=](Handlers& handlers, CallContext& context, const Messages& in) {
          auto response = std::make_unique<Response>();
          Answer answer;
          answer.status = ((handlers.*handler).*method)(
              context, As<Request>(in[0]), response.get());
          if (answer.status.ok()) answer.replies.push_back(std::move(response));
          return answer;
        });
  }

  // Answers later.
  template <typename H, typename Request, typename Response>
  void Add(std::string name, Kind kind, H Handlers::* handler,
           void (H::*method)(CallContext&, const Request&, Response*, Reply)) {
    AddCall<Request>(
        std::move(name), kind, /*takes_many=*/false,
        [=](Handlers& handlers, CallContext& context, const Messages& in) {
          auto response = std::make_unique<Response>();
          Answer answer;
          // Until the last copy of the reply is gone, not only until it ran.
          absl::Notification released;
          {
            auto notify = std::shared_ptr<absl::Notification>(
                &released, [](absl::Notification* n) { n->Notify(); });
            ((handlers.*handler).*method)(
                context, As<Request>(in[0]), response.get(),
                [&answer, notify](absl::Status status) {
                  answer.status = std::move(status);
                });
          }
          released.WaitForNotification();
          if (answer.status.ok()) answer.replies.push_back(std::move(response));
          return answer;
        });
  }

  template <typename H, typename Request, typename Response>
  void Add(std::string name, Kind kind, H Handlers::* handler,
           absl::StatusOr<std::unique_ptr<StreamSource<Response>>> (H::*method)(
               CallContext&, const Request&)) {
    AddCall<Request>(
        std::move(name), kind, /*takes_many=*/false,
        [=](Handlers& handlers, CallContext& context, const Messages& in) {
          Answer answer;
          const auto source =
              ((handlers.*handler).*method)(context, As<Request>(in[0]));
          answer.status = source.status();
          while (answer.status.ok() && answer.replies.size() < kMaxReplies) {
            auto response = std::make_unique<Response>();
            const auto step = (*source)->Next(context, response.get());
            answer.status = step.status();
            if (!step.ok() || step->kind != StreamStep::Kind::kSend) break;
            answer.replies.push_back(std::move(response));
          }
          return answer;
        });
  }

  template <typename H, typename Request, typename Response>
  void Add(std::string name, Kind kind, H Handlers::* handler,
           absl::StatusOr<std::unique_ptr<StreamSink<Request, Response>>> (
               H::*method)(CallContext&)) {
    AddCall<Request>(
        std::move(name), kind, /*takes_many=*/true,
        [=](Handlers& handlers, CallContext& context, const Messages& in) {
          Answer answer;
          const auto sink = ((handlers.*handler).*method)(context);
          answer.status = sink.status();
          for (const auto& message : in) {
            if (!answer.status.ok()) return answer;
            answer.status = (*sink)->Take(context, As<Request>(message));
          }
          if (!answer.status.ok()) return answer;
          auto response = std::make_unique<Response>();
          answer.status = (*sink)->End(context, response.get());
          if (answer.status.ok()) answer.replies.push_back(std::move(response));
          return answer;
        });
  }

  template <typename H, typename Request, typename Response>
  void Add(std::string name, Kind kind, H Handlers::* handler,
           absl::StatusOr<std::unique_ptr<StreamAnswerer<Request, Response>>> (
               H::*method)(CallContext&)) {
    AddCall<Request>(
        std::move(name), kind, /*takes_many=*/true,
        [=](Handlers& handlers, CallContext& context, const Messages& in) {
          Answer answer;
          const auto answerer = ((handlers.*handler).*method)(context);
          answer.status = answerer.status();
          for (const auto& message : in) {
            if (!answer.status.ok()) break;
            auto response = std::make_unique<Response>();
            answer.status = (*answerer)->Answer(context, As<Request>(message),
                                                response.get());
            answer.replies.push_back(std::move(response));
          }
          return answer;
        });
  }

  template <typename Request>
  static const Request& As(const std::unique_ptr<Message>& message) {
    return static_cast<const Request&>(*message);
  }

  template <typename Request, typename Call>
  void AddCall(std::string name, Kind kind, bool takes_many, Call call) {
    methods_.push_back({.name = std::move(name),
                        .request = &Request::default_instance(),
                        .changes = kind == Kind::kChanges,
                        .takes_many = takes_many,
                        .call = std::move(call)});
  }

  void AddResources();
  void AddMmu();
  void AddMemory();
  void AddRest();

  std::vector<FuzzedMethod> methods_;
};

Table::Table() {
  AddResources();
  AddMmu();
  AddMemory();
  AddRest();
}

void Table::AddResources() {
  using H = Handlers;
  constexpr Kind kReads = Kind::kReads;
  constexpr Kind kChanges = Kind::kChanges;
  Add("VmService.CreateVm", kChanges, &H::vm, &VmHandler::CreateVm);
  Add("VmService.GetVm", kReads, &H::vm, &VmHandler::GetVm);
  Add("VmService.ListVms", kReads, &H::vm, &VmHandler::ListVms);
  Add("VmService.UpdateVm", kChanges, &H::vm, &VmHandler::UpdateVm);
  Add("VmService.DeleteVm", kChanges, &H::vm, &VmHandler::DeleteVm);
  Add("VmService.StartVm", kChanges, &H::vm, &VmHandler::StartVm);
  Add("VmService.PauseVm", kChanges, &H::vm, &VmHandler::PauseVm);
  Add("VmService.ResumeVm", kChanges, &H::vm, &VmHandler::ResumeVm);
  Add("VmService.StopVm", kChanges, &H::vm, &VmHandler::StopVm);
  Add("VcpuService.LoadGuest", kChanges, &H::vcpu, &VcpuHandler::LoadGuest);
  Add("VcpuService.GetVcpu", kReads, &H::vcpu, &VcpuHandler::GetVcpu);
  Add("VcpuService.ListVcpus", kReads, &H::vcpu, &VcpuHandler::ListVcpus);
  Add("VcpuService.WaitVcpu", kReads, &H::vcpu, &VcpuHandler::WaitVcpu);
  Add("MemslotService.CreateMemslot", kChanges, &H::memslot,
      &MemslotHandler::CreateMemslot);
  Add("MemslotService.GetMemslot", kReads, &H::memslot,
      &MemslotHandler::GetMemslot);
  Add("MemslotService.ListMemslots", kReads, &H::memslot,
      &MemslotHandler::ListMemslots);
  Add("MemslotService.UpdateMemslot", kChanges, &H::memslot,
      &MemslotHandler::UpdateMemslot);
  Add("MemslotService.DeleteMemslot", kChanges, &H::memslot,
      &MemslotHandler::DeleteMemslot);
}

void Table::AddMmu() {
  using H = Handlers;
  constexpr Kind kReads = Kind::kReads;
  constexpr Kind kChanges = Kind::kChanges;
  Add("MmuService.MapRange", kChanges, &H::mmu, &MmuHandler::MapRange);
  Add("MmuService.ZapRange", kChanges, &H::mmu, &MmuHandler::ZapRange);
  Add("MmuService.ZapAll", kChanges, &H::mmu, &MmuHandler::ZapAll);
  Add("MmuService.WalkGfn", kReads, &H::mmu, &MmuHandler::WalkGfn);
  Add("MmuService.WalkRange", kReads, &H::mmu, &MmuHandler::WalkRange);
  Add("MmuService.WalkFrames", kReads, &H::mmu, &MmuHandler::WalkFrames);
  Add("MmuService.AuditRange", kReads, &H::mmu, &MmuHandler::AuditRange);
  Add("MmuService.ProtectRange", kChanges, &H::mmu, &MmuHandler::ProtectRange);
  Add("MmuService.WriteProtectRange", kChanges, &H::mmu,
      &MmuHandler::WriteProtectRange);
  Add("MmuService.SplitHugePages", kChanges, &H::mmu,
      &MmuHandler::SplitHugePages);
  Add("MmuService.CollapseHugePages", kChanges, &H::mmu,
      &MmuHandler::CollapseHugePages);
  Add("MmuService.AgeRange", kChanges, &H::mmu, &MmuHandler::AgeRange);
  Add("MmuService.ApplyBatch", kChanges, &H::mmu, &MmuHandler::ApplyBatch);
  Add("MmuService.StreamOperations", kChanges, &H::mmu,
      &MmuHandler::StreamOperations);
}

void Table::AddMemory() {
  using H = Handlers;
  constexpr Kind kReads = Kind::kReads;
  constexpr Kind kChanges = Kind::kChanges;
  // Reading brings frames in.
  Add("GuestMemoryService.ReadGuestMemory", kChanges, &H::guest_memory,
      &GuestMemoryHandler::ReadGuestMemory);
  Add("GuestMemoryService.WriteGuestMemory", kChanges, &H::guest_memory,
      &GuestMemoryHandler::WriteGuestMemory);
  Add("GuestMemoryService.DiscardRange", kChanges, &H::guest_memory,
      &GuestMemoryHandler::DiscardRange);
  Add("DirtyLogService.CreateDirtyConsumer", kChanges, &H::dirty_log,
      &DirtyLogHandler::CreateDirtyConsumer);
  Add("DirtyLogService.ListDirtyConsumers", kReads, &H::dirty_log,
      &DirtyLogHandler::ListDirtyConsumers);
  Add("DirtyLogService.DeleteDirtyConsumer", kChanges, &H::dirty_log,
      &DirtyLogHandler::DeleteDirtyConsumer);
  Add("DirtyLogService.ReadDirtyLog", kChanges, &H::dirty_log,
      &DirtyLogHandler::ReadDirtyLog);
  Add("DirtyLogService.ClearDirtyLog", kChanges, &H::dirty_log,
      &DirtyLogHandler::ClearDirtyLog);
  // Both age what they count.
  Add("WorkingSetService.EstimateWorkingSet", kChanges, &H::working_set,
      &WorkingSetHandler::EstimateWorkingSet);
  Add("WorkingSetService.WatchWorkingSet", kChanges, &H::working_set,
      &WorkingSetHandler::WatchWorkingSet);
}

void Table::AddRest() {
  using H = Handlers;
  constexpr Kind kReads = Kind::kReads;
  Add("InfoService.GetInfo", kReads, &H::info, &InfoHandler::GetInfo);
  Add("StatsService.GetVmStats", kReads, &H::stats, &StatsHandler::GetVmStats);
  Add("StatsService.WatchVmStats", kReads, &H::stats,
      &StatsHandler::WatchVmStats);
  Add("EventService.WatchEvents", kReads, &H::event,
      &EventHandler::WatchEvents);
  Add("EventService.ListWaitingAccesses", kReads, &H::event,
      &EventHandler::ListWaitingAccesses);
  Add("EventService.ResolveAccess", Kind::kChanges, &H::event,
      &EventHandler::ResolveAccess);
  Add("Health.Check", kReads, &H::health, &HealthHandler::Check);
  Add("Health.Watch", kReads, &H::health, &HealthHandler::Watch);
  Add("ServerReflection.ServerReflectionInfo", kReads, &H::reflection,
      &ReflectionHandler::ServerReflectionInfo);
  Add("ServerReflectionAlpha.ServerReflectionInfo", kReads,
      &H::reflection_alpha, &ReflectionAlphaHandler::ServerReflectionInfo);
}

}  // namespace

Handlers::Handlers(VmRegistry& registry, Executor& executor)
    : info(registry),
      vm(registry, requests),
      vcpu(registry, executor),
      memslot(registry, requests),
      mmu(registry),
      guest_memory(registry),
      stats(registry),
      event(registry),
      dirty_log(registry),
      working_set(registry, executor) {
  const std::vector<std::string> names = {"tdp.v1.VmService",
                                          "tdp.v1.MmuService"};
  health.SetServices(names);
  reflection.SetServices(names);
  reflection_alpha.SetServices(names);
}

const std::vector<FuzzedMethod>& FuzzedMethods() {
  static const auto& methods = *new std::vector<FuzzedMethod>(Table().Take());
  return methods;
}

const FuzzedMethod* FindFuzzedMethod(absl::string_view name) {
  for (const FuzzedMethod& method : FuzzedMethods()) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace tdp::server
