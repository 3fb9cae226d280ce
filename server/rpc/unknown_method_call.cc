#include "server/rpc/unknown_method_call.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {

void UnknownMethodCall::Begin() {
  const std::string name = Shown(server_context_.method());
  Complete(MakeError(ErrorReason::kNotImplemented,
                     absl::StrCat("no service here has a method ", name,
                                  "; server reflection lists what there is"),
                     {{"method", name}}));
}

}  // namespace tdp::server
