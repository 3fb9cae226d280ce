// grpc.health.v1.Health: whether the daemon serves.
//
// Every service, and "" for the daemon, is SERVING until the daemon drains, and
// NOT_SERVING from then on.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_HEALTH_SERVICE_H_
#define SERVER_SERVICES_HEALTH_SERVICE_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpc/health/v1/health.pb.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"

namespace tdp::server {

class HealthHandler {
 public:
  using Request = grpc::health::v1::HealthCheckRequest;
  using Response = grpc::health::v1::HealthCheckResponse;

  // Knows `service_names` from then on. Before the first call.
  void SetServices(const std::vector<std::string>& service_names);

  absl::Status Check(CallContext& context, const Request& request,
                     Response* response);
  // Ends, with DRAINING, once it has told that the daemon drains.
  absl::StatusOr<std::unique_ptr<StreamSource<Response>>> Watch(
      CallContext& context, const Request& request);

 private:
  bool IsKnown(const std::string& service) const {
    return service.empty() || services_.contains(service);
  }

  std::set<std::string> services_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_HEALTH_SERVICE_H_
