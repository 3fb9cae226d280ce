#include "server/rpc/unary_call.h"

namespace tdp::server {

void UnaryCallBase::Begin() {
  auto self = std::static_pointer_cast<UnaryCallBase>(shared_from_this());
  Dispatch(/*first=*/true, [self] {
    absl::Status status = self->context().CheckAlive();
    if (status.ok()) status = self->context().CheckRoom();
    if (!status.ok()) {
      self->Complete(status);
      return;
    }
    self->Invoke([self](absl::Status status) { self->Complete(status); });
  });
}

void UnaryCallBase::OnAlarm(bool expired) {
  if (!expired) return;
  context().Cancel();
  Complete(DeadlineError());
}

}  // namespace tdp::server
