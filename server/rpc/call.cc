#include "server/rpc/call.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "grpc/support/time.h"
#include "server/base/log.h"
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
  if (!entered.ok()) {
    Complete(entered);
    return;
  }
  // gRPC itself ends a call whose caller set a deadline. A method that runs in
  // place is over before a timer could matter.
  if (use_default && run_on() == RunOn::kExecutor) {
    absl::MutexLock lock(&mutex_);
    SetAlarm(deadline);
  }
  Begin();
}

void Call::OnDone(bool) {
  if (!server_context().IsCancelled()) return;
  context_.Cancel();
  NoteCancelled();
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
  while (gates_entered_ > 0) {
    core_.gates()[--gates_entered_]->Leave(context_, code_);
  }
}

void Call::OnFinished(bool) {
  LeaveGates();
  core_.Leave(this);
}

void Call::Complete(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    if (completed_) return;
    completed_ = true;
    code_ = status.code();
    alarm_.Cancel();
  }
  if (absl::IsInternal(status)) {
    Log(Severity::kError, "a call failed",
        {{"method", method().name},
         {"error", {status.message().data(), status.message().size()}}});
  }
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
  if (!first) {
    if (!core_.executor().Post(std::move(step))) Complete(DrainingError());
    return;
  }
  if (!core_.executor().TryPost(std::move(step))) {
    Complete(LimitError("max_queued_calls",
                        static_cast<int64_t>(core_.executor().max_queued()),
                        "wait for answers before sending more calls"));
  }
}

void Call::SetAlarm(absl::Time time) {
  alarm_.Set(&cq_, ToGprTime(time), alarm_event_.Start());
}

}  // namespace tdp::server
