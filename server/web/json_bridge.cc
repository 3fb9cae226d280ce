#include "server/web/json_bridge.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {

absl::StatusOr<std::string> JsonBridge::Call(
    absl::string_view name, absl::string_view request_json) const {
  const auto method = methods_.find(name);
  if (method == methods_.end()) {
    return MakeError(ErrorReason::kResourceNotFound,
                     absl::StrCat("the method ", Shown(name),
                                  " is not offered as JSON; gRPC may have it"),
                     {{"method", std::string(name)}});
  }
  return method->second(request_json);
}

std::vector<std::string> JsonBridge::names() const {
  std::vector<std::string> names;
  for (const auto& [name, method] : methods_) names.push_back(name);
  return names;
}

}  // namespace tdp::server
