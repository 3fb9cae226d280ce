#include "server/rpc/call_context.h"

#include "absl/time/clock.h"
#include "engine/base/errors.h"

namespace tdp::server {

const MethodTraits CallContext::kNoMethod;

bool CallContext::cancelled() const {
  return end_.load(std::memory_order_acquire) != End::kNone ||
         (deadline_ != absl::InfiniteFuture() && absl::Now() >= deadline_);
}

absl::Status CallContext::CheckAlive() const {
  if (deadline_ != absl::InfiniteFuture() && absl::Now() >= deadline_) {
    return DeadlineError();
  }
  switch (end_.load(std::memory_order_acquire)) {
    case End::kNone:
      return absl::OkStatus();
    case End::kGivenUp:
      return MakeError(ErrorReason::kCancelled, "the caller gave up the call");
    case End::kCutOff:
      return CutOffError();
  }
  return absl::OkStatus();
}

absl::Status DrainingError() {
  return MakeError(ErrorReason::kDraining,
                   "the daemon is shutting down and takes no new calls; try "
                   "again when it runs again");
}

absl::Status CutOffError() {
  return MakeError(ErrorReason::kDraining,
                   "the daemon shut down before the work was done; try again "
                   "when it runs again");
}

absl::Status DeadlineError() {
  return MakeError(ErrorReason::kDeadlinePassed,
                   "the deadline passed before the work was done; set a later "
                   "deadline or ask for less at once");
}

}  // namespace tdp::server
