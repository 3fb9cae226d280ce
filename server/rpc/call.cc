#include "server/rpc/call.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "grpc/grpc.h"
#include "grpc/support/time.h"
#include "server/convert/status.h"
#include "server/rpc/call_gate.h"

namespace tdp::server {
namespace {

absl::Time DeadlineOf(const grpc::ServerContext& context) {
  const gpr_timespec deadline = context.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) {
    return absl::InfiniteFuture();
  }
  const gpr_timespec wall =
      gpr_convert_clock_type(deadline, GPR_CLOCK_REALTIME);
  return absl::FromUnixSeconds(wall.tv_sec) + absl::Nanoseconds(wall.tv_nsec);
}

// What the gates hear of a call whose caller did not read.
absl::Status TooSlowError() {
  return MakeError(ErrorReason::kStreamTooSlow,
                   "what the daemon sent was not read for too long; read "
                   "faster, or ask for less",
                   {{"limit", "max_unread_seconds"}});
}

gpr_timespec ToGprTime(absl::Time time) {
  if (time == absl::InfiniteFuture()) return gpr_inf_future(GPR_CLOCK_REALTIME);
  const int64_t nanos = absl::ToUnixNanos(time);
  return gpr_time_add(gpr_time_0(GPR_CLOCK_REALTIME),
                      gpr_time_from_nanos(nanos, GPR_TIMESPAN));
}

}  // namespace

void* Completion::Start() {
  keep_alive_ = owner_->shared_from_this();
  return this;
}

void Completion::Run(bool ok) {
  const std::shared_ptr<Call> keep_alive = std::move(keep_alive_);
  (owner_->*handler_)(ok);
}

Call::Call(const Method& method, ServerCore& core,
           grpc::ServerCompletionQueue& cq)
    : method_(method), core_(core), cq_(cq) {
  context_.set_method(&method.traits);
  context_.set_draining(&core.draining());
}

void Call::Listen() {
  if (hears_cancellation()) {
    server_context().AsyncNotifyWhenDone(done_.Start());
  }
  RequestCall(requested_.Start());
}

void Call::OnRequested(bool ok) {
  if (!ok) {
    // The server shuts down. gRPC reports the end only of calls that began.
    done_.Abandon();
    return;
  }
  core_.Enter(this);
  method_.new_call(method_, core_, cq_)->Listen();

  const absl::Time now = absl::Now();
  context_.set_start_time(now);
  absl::Time deadline = DeadlineOf(server_context());
  const bool use_default = deadline == absl::InfiniteFuture() &&
                           default_deadline() == DefaultDeadline::kApplies;
  if (use_default) deadline = now + core_.default_deadline();
  context_.set_deadline(deadline);

  const absl::Status entered = EnterGates();
  // Before cut_off() is asked, as CutOff() asks after it has set that: one of
  // the two sees the other's.
  let_in_.store(true, std::memory_order_seq_cst);
  if (!entered.ok()) {
    Complete(entered);
    return;
  }
  if (context_.cut_off()) {
    Complete(context_.CheckAlive());
    return;
  }
  // gRPC itself ends a call whose caller set a deadline. A method that runs in
  // place is over before a timer could matter.
  if (use_default && run_on() != RunOn::kPoller) {
    absl::MutexLock lock(&mutex_);
    if (!completed_) SetAlarm(deadline);
  }
  Begin();
}

ActiveCall Call::Describe() const {
  ActiveCall call{.method = method().name};
  // What comes before let_in_ is written by the thread that took the call.
  if (!let_in_.load(std::memory_order_acquire)) return call;
  if (context_.peer() != nullptr) call.peer = context_.peer()->identity;
  call.start_time = context_.start_time();
  call.work = context_.work();
  call.cancelled = context_.cancelled();
  return call;
}

void Call::OnDone(bool) {
  if (!server_context().IsCancelled()) return;
  context_.Cancel();
  NoteCancelled();
}

void Call::CutOff() {
  context_.CutOff();
  // A call that is just coming in finds out itself; see OnRequested().
  if (let_in_.load(std::memory_order_seq_cst)) NoteCutOff();
}

absl::Status Call::EnterGates() {
  for (CallGate* gate : core_.gates()) {
    const absl::Status status = gate->Enter(server_context(), context_);
    if (!status.ok()) return status;
    ++gates_entered_;
  }
  if (context_.draining() &&
      method().while_draining == WhileDraining::kRefuse) {
    return DrainingError();
  }
  return absl::OkStatus();
}

void Call::LeaveGates() {
  const absl::StatusCode code = cut_off_.load(std::memory_order_relaxed)
                                    ? CodeOf(ErrorReason::kStreamTooSlow)
                                    : code_;
  while (gates_entered_ > 0) {
    core_.gates()[--gates_entered_]->Leave(context_, code);
  }
}

void Call::BeginSend(int64_t bytes) {
  read_by_epoch_.store(0, std::memory_order_relaxed);
  unread_epoch_.store(core_.epoch(), std::memory_order_relaxed);
  if (context_.usage() != nullptr) {
    unsent_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    context_.usage()->AddUnsent(bytes);
  }
}

void Call::EndSend() {
  unread_epoch_.store(0, std::memory_order_relaxed);
  if (context_.usage() != nullptr) {
    context_.usage()->AddUnsent(
        -unsent_bytes_.exchange(0, std::memory_order_relaxed));
  }
}

void Call::OnSent(bool ok) {
  EndSend();
  OnWritten(ok);
}

bool Call::CutOffIfUnread(int64_t epoch, int64_t max_rounds) {
  const int64_t since = unread_epoch_.load(std::memory_order_relaxed);
  if (since == 0 || since + max_rounds > epoch) return false;
  // What the caller has unread of other calls comes the same way.
  const int64_t unread =
      context_.usage() == nullptr ? 0 : context_.usage()->unsent_bytes();
  const int64_t read_by =
      std::max(read_by_epoch_.load(std::memory_order_relaxed),
               since + max_rounds + core_.RoundsToRead(unread));
  read_by_epoch_.store(read_by, std::memory_order_relaxed);
  if (epoch < read_by) return false;
  if (cut_off_.exchange(true, std::memory_order_relaxed)) return false;
  context_.Cancel();
  // Past what waits for the caller's flow-control window. It carries a code and
  // a text, no details.
  grpc_call_cancel_with_status(
      server_context().c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED,
      "STREAM_TOO_SLOW: what the daemon sent was not read for too long (limits "
      "max_unread_seconds and min_read_bytes_per_second); read faster, or ask "
      "for less",
      nullptr);
  return true;
}

void Call::OnFinished(bool) {
  EndSend();
  LeaveGates();
  core_.Leave(this);
}

void Call::Complete(const absl::Status& asked) {
  const bool too_slow = cut_off_.load(std::memory_order_relaxed);
  const absl::Status status = too_slow ? TooSlowError() : asked;
  {
    absl::MutexLock lock(&mutex_);
    if (completed_) return;
    completed_ = true;
    code_ = status.code();
    alarm_.Cancel();
  }
  for (CallGate* gate : core_.gates()) {
    gate->Completing(server_context(), context_, status);
  }
  BeginSend(status.ok() ? response_bytes() : 0);
  // Nearly every call: nothing is built for it.
  if (status.ok()) {
    SendStatus(grpc::Status::OK, finished_.Start());
    return;
  }
  SendStatus(ToGrpcStatus(status), finished_.Start());
}

void Call::Dispatch(bool first, std::function<void()> step) {
  if (run_on() == RunOn::kPoller) {
    step();
    return;
  }
  Executor& executor = core_.executor();
  const Executor::Place place = {
      .lane = run_on() == RunOn::kBulk ? Executor::Lane::kBulk
                                       : Executor::Lane::kControl,
      .peer = context_.peer() == nullptr ? 0 : context_.peer()->id};
  if (!first) {
    if (!executor.Continue(place, std::move(step))) Complete(DrainingError());
    return;
  }
  const auto full = [&](absl::string_view limit, size_t value) {
    return LimitError(limit, static_cast<int64_t>(value),
                      "wait for answers before sending more calls",
                      absl::Milliseconds(100));
  };
  switch (executor.Submit(place, std::move(step))) {
    case Executor::Admission::kAccepted:
      return;
    case Executor::Admission::kShutDown:
      return Complete(DrainingError());
    case Executor::Admission::kQueueFull:
      return Complete(full("max_queued_calls", executor.max_queued()));
    case Executor::Admission::kPeerQueueFull:
      return Complete(
          full("max_queued_calls_per_client", executor.max_queued_per_peer()));
  }
}

void Call::SetAlarm(absl::Time time) {
  alarm_.Set(&cq_, ToGprTime(time), alarm_event_.Start());
}

}  // namespace tdp::server
