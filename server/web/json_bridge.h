// JsonBridge: methods of the API for whoever speaks JSON, answered by the very
// handlers that gRPC calls.
//
// It offers what is asked of it, one by one: methods that only look and that
// take microseconds, since they run in place.
//
// Thread safety: Offer() before the first Call(); Call() from any thread.

#ifndef SERVER_WEB_JSON_BRIDGE_H_
#define SERVER_WEB_JSON_BRIDGE_H_

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/rpc/call_context.h"
#include "server/web/json.h"

namespace tdp::server {

class JsonBridge {
 public:
  JsonBridge() = default;
  JsonBridge(const JsonBridge&) = delete;
  JsonBridge& operator=(const JsonBridge&) = delete;

  // `name` is e.g. "VmService/GetVm". `object` outlives this.
  template <typename Object, typename Request, typename Response>
  void Offer(std::string name, Object* object,
             absl::Status (Object::*handler)(CallContext&, const Request&,
                                             Response*)) {
    methods_[std::move(name)] =
        [object,
         handler](absl::string_view json) -> absl::StatusOr<std::string> {
      Request request;
      TDP_RETURN_IF_ERROR(FromJson(json, &request));
      CallContext context;
      context.set_start_time(absl::Now());
      Response response;
      TDP_RETURN_IF_ERROR((object->*handler)(context, request, &response));
      return ToJson(response);
    };
  }

  // The response as JSON. RESOURCE_NOT_FOUND for what is not offered.
  absl::StatusOr<std::string> Call(absl::string_view name,
                                   absl::string_view request_json) const;
  std::vector<std::string> names() const;

 private:
  using Method =
      std::function<absl::StatusOr<std::string>(absl::string_view json)>;

  std::map<std::string, Method, std::less<>> methods_;
};

}  // namespace tdp::server

#endif  // SERVER_WEB_JSON_BRIDGE_H_
