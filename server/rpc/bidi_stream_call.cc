#include "server/rpc/bidi_stream_call.h"

namespace tdp::server {

void BidiStreamCallBase::Begin() {
  began_draining_ = context().draining();
  const absl::Status opened = OpenAnswerer();
  if (!opened.ok()) return End(opened);
  ReadNext();
}

void BidiStreamCallBase::NoteDraining() {
  {
    absl::MutexLock lock(&mutex_);
    if (!idle_) return;
    idle_ = false;
  }
  // The read that is under way fails once the status is out; OnRead() sees
  // that the call is complete.
  End(DrainingError());
}

void BidiStreamCallBase::ReadNext() {
  {
    absl::MutexLock lock(&mutex_);
    idle_ = true;
    ReadMessage(read_.Start());
  }
  // NoteDraining() may have come before the stream was idle.
  if (context().draining() && !began_draining_) NoteDraining();
}

void BidiStreamCallBase::OnRead(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    if (!idle_) return;
    idle_ = false;
  }
  auto self = std::static_pointer_cast<BidiStreamCallBase>(shared_from_this());
  Dispatch(/*first=*/false, [self, ok] {
    const absl::Status alive = self->context().CheckAlive();
    if (!alive.ok()) return self->End(alive);
    if (!ok) return self->End(absl::OkStatus());
    const absl::Status answered = self->AnswerMessage();
    if (!answered.ok()) return self->End(answered);
    self->BeginSend(self->message_bytes());
    self->SendMessage(self->written_.Start());
  });
}

void BidiStreamCallBase::OnWritten(bool ok) {
  if (!ok) {
    context().Cancel();
    End(context().CheckAlive());
    return;
  }
  ReadNext();
}

void BidiStreamCallBase::End(const absl::Status& status) {
  CloseAnswerer();
  Complete(status);
}

}  // namespace tdp::server
