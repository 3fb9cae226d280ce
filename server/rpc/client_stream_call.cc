#include "server/rpc/client_stream_call.h"

namespace tdp::server {

void ClientStreamCallBase::Begin() {
  const absl::Status opened = OpenSink();
  if (!opened.ok()) return End(opened);
  ReadNext();
}

void ClientStreamCallBase::NoteCutOff() {
  {
    absl::MutexLock lock(&mutex_);
    if (!reading_) return;
    reading_ = false;
  }
  // The read that is under way fails once the status is out.
  End(context().CheckAlive());
}

void ClientStreamCallBase::ReadNext() {
  {
    absl::MutexLock lock(&mutex_);
    reading_ = true;
    ReadMessage(read_.Start());
  }
  // It may have been cut off before it waited for its client.
  if (context().cut_off()) NoteCutOff();
}

void ClientStreamCallBase::OnRead(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    if (!reading_) return;
    reading_ = false;
  }
  auto self =
      std::static_pointer_cast<ClientStreamCallBase>(shared_from_this());
  // The first message is new work, but it has been paid for: the caller's own
  // flow-control window holds it.
  Dispatch(/*first=*/false, [self, ok] {
    const absl::Status alive = self->context().CheckAlive();
    if (!alive.ok()) return self->End(alive);
    if (!ok) return self->End(self->EndOfMessages());
    const absl::Status taken = self->TakeMessage();
    if (!taken.ok()) return self->End(taken);
    self->ReadNext();
  });
}

void ClientStreamCallBase::End(const absl::Status& status) {
  CloseSink();
  Complete(status);
}

}  // namespace tdp::server
