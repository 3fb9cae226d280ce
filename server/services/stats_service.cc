#include "server/services/stats_service.h"

#include "server/base/status_macros.h"
#include "server/convert/mmu_convert.h"
#include "server/services/find_vm.h"

namespace tdp::server {

absl::Status StatsHandler::GetVmStats(CallContext&,
                                      const v1::GetVmStatsRequest& request,
                                      v1::GetVmStatsResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  ToProto(vm->Stats(), response->mutable_stats());
  return absl::OkStatus();
}

}  // namespace tdp::server
