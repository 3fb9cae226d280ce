// Server reflection: what services there are and how their messages look, from
// the descriptors that are linked in. Versions v1 and v1alpha differ in nothing
// but their package, so one template serves both.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_REFLECTION_SERVICE_H_
#define SERVER_SERVICES_REFLECTION_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "grpc/reflection/v1alpha/reflection.pb.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"

namespace tdp::server {

template <typename Request, typename Response>
class ReflectionHandlerOf {
 public:
  // Lists `service_names` from then on. Before the first call.
  void SetServices(std::vector<std::string> service_names) {
    service_names_ = std::move(service_names);
  }

  absl::StatusOr<std::unique_ptr<StreamAnswerer<Request, Response>>>
  ServerReflectionInfo(CallContext& context);

  // Answers one question. What cannot be found is an error_response, so that
  // the stream goes on.
  void Answer(const Request& request, Response* response) const;

 private:
  std::vector<std::string> service_names_;
};

using ReflectionHandler =
    ReflectionHandlerOf<grpc::reflection::v1::ServerReflectionRequest,
                        grpc::reflection::v1::ServerReflectionResponse>;
using ReflectionAlphaHandler =
    ReflectionHandlerOf<grpc::reflection::v1alpha::ServerReflectionRequest,
                        grpc::reflection::v1alpha::ServerReflectionResponse>;

extern template class ReflectionHandlerOf<
    grpc::reflection::v1::ServerReflectionRequest,
    grpc::reflection::v1::ServerReflectionResponse>;
extern template class ReflectionHandlerOf<
    grpc::reflection::v1alpha::ServerReflectionRequest,
    grpc::reflection::v1alpha::ServerReflectionResponse>;

}  // namespace tdp::server

#endif  // SERVER_SERVICES_REFLECTION_SERVICE_H_
