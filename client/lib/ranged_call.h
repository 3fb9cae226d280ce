// The loop around ranged methods, which may stop early and are called again
// until they have handled the whole range.
//
// Thread safety: free function.

#ifndef CLIENT_LIB_RANGED_CALL_H_
#define CLIENT_LIB_RANGED_CALL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/call_error.h"

namespace tdp::client {

// Calls `call(request)`, which gives an absl::StatusOr<Response>, with
// `request.range` moved on to each `next_gfn`, and passes every response to
// `add`. An error after progress says how far the calls got.
template <typename Request, typename Call, typename Add>
absl::Status CallUntilEnd(Request request, Call call, Add add) {
  const uint64_t start = request.range().start_gfn();
  const uint64_t end = request.range().end_gfn();
  uint64_t next = start;
  do {
    request.mutable_range()->set_start_gfn(next);
    const auto response = call(request);
    if (!response.ok()) {
      if (next == start) return response.status();
      return WithSuffix(
          response.status(),
          absl::StrCat(" (", FormatFrameRange({start, next}), " is done)"));
    }
    if (response->next_gfn() <= next && next < end) {
      return absl::InternalError(absl::StrCat("the daemon made no progress at ",
                                              FormatFrameAddress(next)));
    }
    add(*response);
    next = response->next_gfn();
  } while (next < end);
  return absl::OkStatus();
}

}  // namespace tdp::client

#endif  // CLIENT_LIB_RANGED_CALL_H_
