// FuzzedMethod: a method of a service, called through its handler without a
// transport, whatever its shape: unary, or a stream of any kind for a few
// steps.
//
// Thread safety: the table is constant. Calls are for one thread at a time.

#ifndef SERVER_FUZZ_FUZZED_METHODS_H_
#define SERVER_FUZZ_FUZZED_METHODS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_registry.h"
#include "google/protobuf/message.h"
#include "server/base/executor.h"
#include "server/convert/request_cache.h"
#include "server/rpc/call_context.h"
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

namespace tdp::server {

// The handlers of all services, as the daemon has them.
struct Handlers {
  Handlers(VmRegistry& registry, Executor& executor);

  RequestCache requests;
  InfoHandler info;
  VmHandler vm;
  VcpuHandler vcpu;
  MemslotHandler memslot;
  MmuHandler mmu;
  GuestMemoryHandler guest_memory;
  StatsHandler stats;
  EventHandler event;
  DirtyLogHandler dirty_log;
  WorkingSetHandler working_set;
  HealthHandler health;
  ReflectionHandler reflection;
  ReflectionAlphaHandler reflection_alpha;
};

using Messages = std::vector<std::unique_ptr<google::protobuf::Message>>;

// How a call ended, and all messages that it sent.
struct Answer {
  absl::Status status;
  Messages replies;
};

struct FuzzedMethod {
  std::string name;                          // "VmService.CreateVm"
  const google::protobuf::Message* request;  // an empty one
  bool changes;  // it may change a VM, its memory or what exists
  bool takes_many;
  // REQUIRES: messages of the request's type; one, unless it takes many.
  std::function<Answer(Handlers&, CallContext&, const Messages&)> call;
};

const std::vector<FuzzedMethod>& FuzzedMethods();
// Null if there is none.
const FuzzedMethod* FindFuzzedMethod(absl::string_view name);

}  // namespace tdp::server

#endif  // SERVER_FUZZ_FUZZED_METHODS_H_
