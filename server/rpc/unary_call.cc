#include "server/rpc/unary_call.h"

namespace tdp::server {

void UnaryCallBase::Begin() {
  // Most calls are answered in place. They allocate nothing on their way, and
  // have not waited: whether they are still wanted is no question.
  if (run_on() == RunOn::kPoller) {
    const absl::Status room = context().CheckRoom();
    if (room.ok()) {
      Invoke();
    } else {
      Complete(room);
    }
    return;
  }
  auto self = std::static_pointer_cast<UnaryCallBase>(shared_from_this());
  Dispatch(/*first=*/true, [self] { self->Run(); });
}

void UnaryCallBase::Run() {
  absl::Status status = context().CheckAlive();
  if (status.ok()) status = context().CheckRoom();
  if (!status.ok()) {
    Complete(status);
    return;
  }
  Invoke();
}

Reply UnaryCallBase::MakeReply() {
  auto self = std::static_pointer_cast<UnaryCallBase>(shared_from_this());
  return [self](absl::Status status) { self->Complete(status); };
}

void UnaryCallBase::OnAlarm(bool expired) {
  if (!expired) return;
  context().Cancel();
  Complete(DeadlineError());
}

}  // namespace tdp::server
