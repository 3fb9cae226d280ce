// InfoService: what this daemon is and what its host can do.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_INFO_SERVICE_H_
#define SERVER_SERVICES_INFO_SERVICE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "tdp/v1/info_service.pb.h"

namespace tdp::server {

class InfoHandler {
 public:
  explicit InfoHandler(const VmRegistry& registry) : registry_(registry) {}

  // Adds limits to those of the engine. Before the first call.
  void AddLimits(const std::vector<std::pair<std::string, int64_t>>& limits) {
    limits_.insert(limits.begin(), limits.end());
  }

  absl::Status GetInfo(CallContext& context, const v1::GetInfoRequest& request,
                       v1::GetInfoResponse* response);

 private:
  const VmRegistry& registry_;
  std::map<std::string, int64_t> limits_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_INFO_SERVICE_H_
