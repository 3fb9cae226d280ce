#include "server/rpc/unary_call.h"

namespace tdp::server {

void UnaryCallBase::Begin() {
  // Most calls are answered in place. They allocate nothing on their way, and
  // have not waited: whether they are still wanted is no question.
  if (run_on() == RunOn::kPoller) {
    Invoke();
    return;
  }
  auto self = std::static_pointer_cast<UnaryCallBase>(shared_from_this());
  Dispatch(/*first=*/true, [self] { self->Run(); });
}

void UnaryCallBase::Run() {
  const absl::Status alive = context().CheckAlive();
  if (!alive.ok()) {
    Complete(alive);
    return;
  }
  Invoke();
}

Reply UnaryCallBase::MakeReply() {
  auto self = std::static_pointer_cast<UnaryCallBase>(shared_from_this());
  return [self](absl::Status status) { self->Complete(status); };
}

void UnaryCallBase::NoteCancelled() {
  // The handler, if it runs, is no longer wanted and finds that out itself.
  Complete(context().CheckAlive());
}

void UnaryCallBase::OnAlarm(bool expired) {
  if (!expired) return;
  context().Cancel();
  Complete(DeadlineError());
}

}  // namespace tdp::server
