// WebApi: everything below /api/ of the HTTP port: the data of the web page, as
// JSON, for who shows the token.
//
// It only looks. Each request is answered in place and in milliseconds, without
// waiting for a vCPU or for anybody's call.
//
// Thread safety: Answer() from any thread.

#ifndef SERVER_WEB_WEB_API_H_
#define SERVER_WEB_WEB_API_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_registry.h"
#include "server/http/http_request.h"
#include "server/observe/metric_source.h"
#include "server/services/newest_working_sets.h"
#include "server/web/json_bridge.h"
#include "server/web/web_token.h"

namespace tdp::server {

inline constexpr char kWebApiPrefix[] = "/api/";
inline constexpr size_t kMaxWebEvents = 256;

class WebApi {
 public:
  // All but the token outlive this; `calls` is what RpcMetrics collects.
  WebApi(WebToken token, const VmRegistry& registry, const JsonBridge& bridge,
         const MetricSource& calls, const NewestWorkingSets& working_sets)
      : token_(std::move(token)),
        registry_(registry),
        bridge_(bridge),
        calls_(calls),
        working_sets_(working_sets) {}

  // REQUIRES: the path begins with kWebApiPrefix.
  HttpResponse Answer(const HttpRequest& request) const;

 private:
  absl::StatusOr<std::string> Json(const HttpRequest& request) const;
  // rpc/SERVICE/METHOD?request=JSON
  absl::StatusOr<std::string> Call(absl::string_view method,
                                   absl::string_view query) const;
  // events?vm=vms/a&startSequence=N&max=256
  absl::StatusOr<std::string> Events(absl::string_view query) const;
  // heatmap?vm=vms/a&firstGfn=N&frameCount=M&cellCount=C
  absl::StatusOr<std::string> HeatmapOf(absl::string_view query) const;
  // workingSet?vm=vms/a: the newest that a client asked for, if one did.
  absl::StatusOr<std::string> WorkingSetOf(absl::string_view query) const;

  const WebToken token_;
  const VmRegistry& registry_;
  const JsonBridge& bridge_;
  const MetricSource& calls_;
  const NewestWorkingSets& working_sets_;
};

}  // namespace tdp::server

#endif  // SERVER_WEB_WEB_API_H_
