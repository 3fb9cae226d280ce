#include "server/rpc/bidi_stream_call.h"

namespace tdp::server {

void BidiStreamCallBase::Begin() {
  began_draining_ = context().draining();
  const absl::Status opened = OpenAnswerer();
  if (!opened.ok()) return End(opened);
  ResetMessages();
  ReadNext();
}

void BidiStreamCallBase::EndIfUnwanted() {
  absl::Status status;
  if (context().cut_off()) {
    status = context().CheckAlive();
  } else if (context().draining() && !began_draining_) {
    status = DrainingError();
  } else {
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    if (ended_ || !reading_ || writing_) return;
    ended_ = true;
  }
  // The read that is under way fails once the status is out.
  End(status);
}

void BidiStreamCallBase::ReadNext() {
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    reading_ = true;
    ReadMessage(read_.Start());
  }
  // That the server drains may have been said before the stream waited.
  EndIfUnwanted();
}

void BidiStreamCallBase::OnRead(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    if (ended_) return;
    if (writing_) {
      waiting_read_ = ok;
      return;
    }
  }
  StartStep(ok);
}

void BidiStreamCallBase::OnWritten(bool ok) {
  std::optional<bool> read;
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (ok) {
      read = std::exchange(waiting_read_, std::nullopt);
    } else {
      ended_ = true;
    }
  }
  if (!ok) {
    context().Cancel();
    End(context().CheckAlive());
  } else if (read.has_value()) {
    StartStep(*read);
  } else {
    EndIfUnwanted();
  }
}

void BidiStreamCallBase::StartStep(bool has_message) {
  auto self = std::static_pointer_cast<BidiStreamCallBase>(shared_from_this());
  Dispatch(/*first=*/false,
           [self, has_message] { self->RunStep(has_message); });
}

void BidiStreamCallBase::RunStep(bool has_message) {
  const absl::Status alive = context().CheckAlive();
  if (!alive.ok()) return End(alive);
  if (!has_message) return End(absl::OkStatus());
  // Its client knows from the answers how far it came.
  if (context().draining() && !began_draining_) return End(DrainingError());
  absl::Status room = context().CheckRoom();
  if (room.ok() && run_on() == RunOn::kBulk) room = context().CheckWork();
  if (!room.ok()) return End(room);
  const absl::Status answered = AnswerMessage();
  if (!answered.ok()) return End(answered);
  {
    absl::MutexLock lock(&mutex_);
    writing_ = true;
  }
  BeginSend(message_bytes());
  SendMessage(written_.Start());
  ResetMessages();
  ReadNext();
}

void BidiStreamCallBase::End(const absl::Status& status) {
  CloseAnswerer();
  Complete(status);
}

}  // namespace tdp::server
