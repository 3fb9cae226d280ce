#include "server/rpc/server_stream_call.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tdp::server {
namespace {

// Between two looks at whether a client has read what it was sent.
constexpr absl::Duration kRoomInterval = absl::Milliseconds(20);

}  // namespace

void ServerStreamCallBase::Begin() {
  context().set_waker([weak = weak_from_this()] {
    const std::shared_ptr<Call> call = weak.lock();
    if (call != nullptr) {
      static_cast<ServerStreamCallBase*>(call.get())->Wake();
    }
  });
  auto self =
      std::static_pointer_cast<ServerStreamCallBase>(shared_from_this());
  Dispatch(/*first=*/true, [self] {
    absl::Status opened = self->context().CheckRoom();
    if (opened.ok()) opened = self->OpenSource();
    if (opened.ok()) {
      self->RunStep();
    } else {
      self->End(opened);
    }
  });
}

void ServerStreamCallBase::OnWritten(bool ok) {
  // A failed write means that the caller is gone; the event that says so may
  // come later.
  if (!ok) context().Cancel();
  Continue();
}

void ServerStreamCallBase::OnAlarm(bool) {
  {
    absl::MutexLock lock(&mutex_);
    parked_ = false;
  }
  Continue();
}

void ServerStreamCallBase::Wake() {
  absl::MutexLock lock(&mutex_);
  if (parked_) {
    // Cancelling an alarm that has just gone off does nothing: its event is
    // under way already.
    parked_ = false;
    alarm_.Cancel();
  } else {
    wake_pending_ = true;
  }
}

void ServerStreamCallBase::Continue() {
  auto self =
      std::static_pointer_cast<ServerStreamCallBase>(shared_from_this());
  Dispatch(/*first=*/false, [self] { self->RunStep(); });
}

// The client's other answers have to be read first, or its work be paid for.
bool ServerStreamCallBase::MustWait() const {
  if (!context().CheckRoom().ok()) return true;
  return run_on() == RunOn::kBulk && !context().CheckWork().ok();
}

void ServerStreamCallBase::RunStep() {
  while (true) {
    const absl::Status alive = context().CheckAlive();
    if (!alive.ok()) return End(alive);
    if (MustWait() && !context().draining()) {
      // Nothing is made for the client meanwhile, so that it may take its time.
      absl::MutexLock lock(&mutex_);
      parked_ = true;
      SetAlarm(absl::Now() + kRoomInterval);
      return;
    }
    {
      absl::MutexLock lock(&mutex_);
      wake_pending_ = false;
    }
    const absl::StatusOr<StreamStep> step = NextStep();
    if (!step.ok()) return End(step.status());
    switch (step->kind) {
      case StreamStep::Kind::kSend:
        BeginSend(message_bytes());
        SendMessage(written_.Start());
        return;
      case StreamStep::Kind::kEnd:
        return End(absl::OkStatus());
      case StreamStep::Kind::kPark: {
        absl::MutexLock lock(&mutex_);
        if (wake_pending_) continue;
        parked_ = true;
        SetAlarm(step->wake_time);
        return;
      }
    }
  }
}

void ServerStreamCallBase::End(const absl::Status& status) {
  // Before the status: a source may hold what its caller waits to see gone.
  CloseSource();
  Complete(status);
}

}  // namespace tdp::server
