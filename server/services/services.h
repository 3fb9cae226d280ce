// Services: every service of the daemon, wired to an RpcServer.
//
// services.cc is the list of all methods and where each runs;
// offered_methods.cc that of those which the web page may call.

#ifndef SERVER_SERVICES_SERVICES_H_
#define SERVER_SERVICES_SERVICES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/convert/request_cache.h"
#include "server/rpc/rpc_server.h"
#include "server/services/dirty_log_service.h"
#include "server/services/event_service.h"
#include "server/services/guest_memory_service.h"
#include "server/services/health_service.h"
#include "server/services/info_service.h"
#include "server/services/memslot_service.h"
#include "server/services/mmu_service.h"
#include "server/services/reflection_service.h"
#include "server/services/stats_service.h"
#include "server/services/vcpu_service.h"
#include "server/services/vm_service.h"
#include "server/services/working_set_service.h"
#include "server/web/json_bridge.h"

namespace tdp::server {

class Services {
 public:
  // Both outlive the services.
  Services(VmRegistry& registry, Executor& executor);
  Services(const Services&) = delete;
  Services& operator=(const Services&) = delete;

  // Adds every service to `server`, which has not started and ends its calls
  // before this object is destroyed. Once.
  void AddTo(RpcServer& server);

  // Adds the methods that the web page may call to `bridge`, which does not
  // outlive this.
  void OfferTo(JsonBridge& bridge);
  const NewestWorkingSets& newest_working_sets() const {
    return working_set_.newest();
  }

  // Has GetInfo report limits of the server's own. Before the server starts.
  void ReportLimits(
      const std::vector<std::pair<std::string, int64_t>>& limits) {
    info_.AddLimits(limits);
  }

 private:
  void AddInfo(RpcServer& server);
  void AddVm(RpcServer& server);
  void AddVcpu(RpcServer& server);
  void AddMemslot(RpcServer& server);
  void AddMmu(RpcServer& server);
  void AddGuestMemory(RpcServer& server);
  void AddStats(RpcServer& server);
  void AddEvent(RpcServer& server);
  void AddDirtyLog(RpcServer& server);
  void AddWorkingSet(RpcServer& server);
  void AddHealth(RpcServer& server);
  void AddReflection(RpcServer& server);

  RequestCache requests_;
  InfoHandler info_;
  VmHandler vm_;
  VcpuHandler vcpu_;
  MemslotHandler memslot_;
  MmuHandler mmu_;
  GuestMemoryHandler guest_memory_;
  StatsHandler stats_;
  EventHandler event_;
  DirtyLogHandler dirty_log_;
  WorkingSetHandler working_set_;
  HealthHandler health_;
  ReflectionHandler reflection_;
  ReflectionAlphaHandler reflection_alpha_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_SERVICES_H_
