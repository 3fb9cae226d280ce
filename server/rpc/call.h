// Call: one call of one method, from the moment that the server asks gRPC for
// it until its status has been sent.
//
// This is the only place that knows completion-queue tags. An operation that is
// under way keeps its call alive: its Completion holds a reference from Start()
// until gRPC hands the tag back.
//
// Invariants:
// - At most one thread runs the handler, or a step of it, at a time.
// - Complete() takes effect once; what comes later is dropped.
// - No operation starts after the status has been handed to gRPC.

#ifndef SERVER_RPC_CALL_H_
#define SERVER_RPC_CALL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/alarm.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "server/rpc/call_context.h"
#include "server/rpc/server_core.h"

namespace tdp::server {

// A method of a service: makes its calls.
struct Method {
  MethodTraits traits;
  std::function<std::shared_ptr<Call>(const Method&, ServerCore&,
                                      grpc::ServerCompletionQueue&)>
      new_call;
};

// An operation on a completion queue; its address is the tag.
class Completion {
 public:
  using Handler = void (Call::*)(bool ok);

  Completion(Call* owner, Handler handler) : owner_(owner), handler_(handler) {}
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  // Returns the tag for an operation that is about to start.
  void* Start();
  // The operation will not be reported after all.
  void Abandon() { keep_alive_.reset(); }
  // Runs the handler. Called by the thread that polls the queue.
  void Run(bool ok);

 private:
  Call* const owner_;
  const Handler handler_;
  std::shared_ptr<Call> keep_alive_;
};

// An alarm that is made when it is first set: few calls need one, and to make
// and to end one costs each a pass through gRPC.
class LazyAlarm {
 public:
  void Set(grpc::CompletionQueue* queue, gpr_timespec time, void* tag) {
    if (!alarm_.has_value()) alarm_.emplace();
    alarm_->Set(queue, time, tag);
  }
  void Cancel() {
    if (alarm_.has_value()) alarm_->Cancel();
  }

 private:
  std::optional<grpc::Alarm> alarm_;
};

class Call : public std::enable_shared_from_this<Call> {
 public:
  Call(const Method& method, ServerCore& core, grpc::ServerCompletionQueue& cq);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  virtual ~Call() = default;

  // Asks gRPC for the next call of the method.
  void Listen();
  // What a person may know about it. Any thread.
  ActiveCall Describe() const;
  // The server began to drain while this call was under way. Any thread.
  virtual void NoteDraining() {}
  // The server can wait no longer: ends the call with an error of ours, as soon
  // as its handler lets it and no write is under way. Any thread.
  void CutOff();
  // Cuts the call off if what was sent `max_rounds` before `epoch` of the
  // server's core, and the time that all takes which its caller has unread, is
  // still under way. One thread at a time. Returns whether it did.
  bool CutOffIfUnread(int64_t epoch, int64_t max_rounds);

 protected:
  // What a deadline that the caller did not set is.
  enum class DefaultDeadline { kApplies, kNone };

  // Asks gRPC for a call, with `tag`.
  virtual void RequestCall(void* tag) = 0;
  virtual grpc::ServerContext& server_context() = 0;
  virtual DefaultDeadline default_deadline() const = 0;
  // Where the handler of this call runs. Once a call has come in.
  virtual RunOn run_on() const { return method_.traits.run_on; }
  // Whether the call must hear that its caller is gone. One that is always
  // answered in place need not, and does without an event of the queue.
  virtual bool hears_cancellation() const { return true; }
  // A call has come in and is let in.
  virtual void Begin() = 0;
  // The caller is gone. On the poller; may run beside a step.
  virtual void NoteCancelled() {}
  // The call is cut off: its context says so. Any thread; may run beside a
  // step.
  virtual void NoteCutOff() {}
  // Hands the status, and the response if it is OK, to gRPC.
  virtual void SendStatus(const grpc::Status& status, void* tag) = 0;
  // Bytes of the message that goes with a status that is OK.
  virtual int64_t response_bytes() const { return 0; }

  // The events of a call's operations.
  virtual void OnRead(bool) {}
  virtual void OnWritten(bool) {}
  virtual void OnAlarm(bool) {}

  // Decides how the call ends. The first one wins. Any thread, holding nothing.
  void Complete(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // Runs `step` where run_on() says. `first` is refused when the executor is
  // full; the call then ends with LIMIT_REACHED.
  void Dispatch(bool first, std::function<void()> step);
  // A message of `bytes` is about to be handed to gRPC. OnWritten() ends it.
  void BeginSend(int64_t bytes);

  const MethodTraits& method() const { return method_.traits; }
  ServerCore& core() { return core_; }
  grpc::ServerCompletionQueue& cq() { return cq_; }
  CallContext& context() { return context_; }
  const CallContext& context() const { return context_; }
  bool completed() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return completed_;
  }
  // Starts the alarm; OnAlarm() follows, with false if it was cancelled.
  void SetAlarm(absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  LazyAlarm alarm_ ABSL_GUARDED_BY(mutex_);
  Completion read_{this, &Call::OnRead};
  Completion written_{this, &Call::OnSent};

 private:
  void OnRequested(bool ok);
  absl::Status EnterGates();
  void LeaveGates();
  void OnSent(bool ok);
  void EndSend();
  void OnDone(bool ok);
  void OnFinished(bool ok);

  const Method& method_;
  ServerCore& core_;
  grpc::ServerCompletionQueue& cq_;
  CallContext context_;
  bool completed_ ABSL_GUARDED_BY(mutex_) = false;
  // context_ is as the gates left it.
  std::atomic<bool> let_in_ = false;
  // ServerCore::epoch() when what is being sent was handed to gRPC; 0 if
  // nothing is. And until when its caller has time to read it, which only
  // grows. These and the next two relaxed: whoever reads them late errs by one
  // round.
  std::atomic<int64_t> unread_epoch_ = 0;
  std::atomic<int64_t> read_by_epoch_ = 0;
  std::atomic<int64_t> unsent_bytes_ = 0;
  std::atomic<bool> cut_off_ = false;
  size_t gates_entered_ = 0;  // constant once the call is let in or refused
  absl::StatusCode code_ = absl::StatusCode::kOk;  // constant once completed
  Completion requested_{this, &Call::OnRequested};
  Completion done_{this, &Call::OnDone};
  Completion finished_{this, &Call::OnFinished};
  Completion alarm_event_{this, &Call::OnAlarm};
};

}  // namespace tdp::server

#endif  // SERVER_RPC_CALL_H_
