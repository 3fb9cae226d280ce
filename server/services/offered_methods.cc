// What the web page may call: methods that an observer may call, that take
// microseconds and that never block.

#include "server/http/http_request.h"
#include "server/services/services.h"

namespace tdp::server {

// A frame takes two characters of a request at least, so that no request is one
// that gRPC would run elsewhere than in place: MmuHandler::IsLongWalk().
static_assert(kMaxHttpTargetBytes / 2 <= MmuHandler::kMaxFramesInPlace);

void Services::OfferTo(JsonBridge& bridge) {
  bridge.Offer("InfoService/GetInfo", &info_, &InfoHandler::GetInfo);
  bridge.Offer("VmService/ListVms", &vm_, &VmHandler::ListVms);
  bridge.Offer("VmService/GetVm", &vm_, &VmHandler::GetVm);
  bridge.Offer("VcpuService/ListVcpus", &vcpu_, &VcpuHandler::ListVcpus);
  bridge.Offer("MemslotService/ListMemslots", &memslot_,
               &MemslotHandler::ListMemslots);
  bridge.Offer("MmuService/WalkGfn", &mmu_, &MmuHandler::WalkGfn);
  bridge.Offer("MmuService/WalkFrames", &mmu_, &MmuHandler::WalkFrames);
  bridge.Offer("StatsService/GetVmStats", &stats_, &StatsHandler::GetVmStats);
  bridge.Offer("EventService/ListWaitingAccesses", &event_,
               &EventHandler::ListWaitingAccesses);
  bridge.Offer("DirtyLogService/ListDirtyConsumers", &dirty_log_,
               &DirtyLogHandler::ListDirtyConsumers);
}

}  // namespace tdp::server
