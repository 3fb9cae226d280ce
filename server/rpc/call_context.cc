#include "server/rpc/call_context.h"

#include <utility>

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

void CallContext::WakeAtEnd(std::function<void()> wake) {
  {
    absl::MutexLock lock(&end_mutex_);
    wake_at_end_ = std::move(wake);
  }
  // What came before nobody was told of.
  if (draining() || end_.load(std::memory_order_seq_cst) != End::kNone) Wake();
}

void CallContext::Wake() {
  std::function<void()> wake;
  {
    absl::MutexLock lock(&end_mutex_);
    wake = wake_at_end_;
  }
  if (wake) wake();
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
