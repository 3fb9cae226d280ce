// Calls of ranged methods under a progress bar.

#ifndef CLIENT_TDPCTL_RANGED_PROGRESS_H_
#define CLIENT_TDPCTL_RANGED_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/lib/address.h"
#include "client/lib/client.h"
#include "client/lib/progress_bar.h"
#include "client/tdpctl/session.h"

namespace tdp::client {

// A bar for the frames of a range.
class RangedProgress {
 public:
  RangedProgress(Session& session, const std::string& verb, FrameRange range)
      : start_gfn_(range.start_gfn),
        bar_(session.progress_place(), verb,
             (range.end_gfn - range.start_gfn) << kFrameShift) {}

  void Update(uint64_t next_gfn) {
    bar_.Update((next_gfn - start_gfn_) << kFrameShift);
  }

 private:
  const uint64_t start_gfn_;
  ProgressBar bar_;
};

template <typename Request>
FrameRange RangeOf(const Request& request) {
  return {request.range().start_gfn(), request.range().end_gfn()};
}

// Calls a method of Client. The bar is gone when this returns.
template <typename Request, typename Response>
absl::StatusOr<Response> CallWithProgress(
    Session& session, const std::string& verb,
    absl::StatusOr<Response> (Client::*method)(const Request&, OnFrame),
    const Request& request) {
  RangedProgress progress(session, verb, RangeOf(request));
  return (session.client().*method)(
      request, [&](uint64_t next_gfn) { progress.Update(next_gfn); });
}

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_RANGED_PROGRESS_H_
