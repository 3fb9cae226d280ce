// CallContext: what a handler may know about the call that it answers.
//
// It names no transport, so handlers and their tests do without one.
//
// Thread safety: the questions, from any thread. Setters belong to the adapter
// (or a test), before the handler first runs, except Cancel().

#ifndef SERVER_RPC_CALL_CONTEXT_H_
#define SERVER_RPC_CALL_CONTEXT_H_

#include <atomic>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tdp::server {

class CallContext {
 public:
  CallContext() = default;
  CallContext(const CallContext&) = delete;
  CallContext& operator=(const CallContext&) = delete;

  // "MmuService.MapRange".
  const std::string& method() const { return method_; }
  // Infinite for a stream whose caller set none.
  absl::Time deadline() const { return deadline_; }
  // Nobody wants the answer any more: the caller gave up, or the deadline
  // passed.
  bool cancelled() const;
  // OK, or the error that a call which is not wanted any more ends with.
  absl::Status CheckAlive() const;
  // The daemon shuts down: a call that would wait ends with DrainingError().
  bool draining() const {
    return draining_ != nullptr && draining_->load(std::memory_order_acquire);
  }
  // Wakes this call's stream if its source waits. May be called from any
  // thread, also after the call has ended; does not block.
  const std::function<void()>& waker() const { return waker_; }

  void set_method(std::string method) { method_ = std::move(method); }
  void set_deadline(absl::Time deadline) { deadline_ = deadline; }
  void set_draining(const std::atomic<bool>* flag) { draining_ = flag; }
  void set_waker(std::function<void()> waker) { waker_ = std::move(waker); }
  void Cancel() { cancelled_.store(true, std::memory_order_release); }

 private:
  std::string method_;
  absl::Time deadline_ = absl::InfiniteFuture();
  const std::atomic<bool>* draining_ = nullptr;
  std::function<void()> waker_ = [] {};
  std::atomic<bool> cancelled_ = false;  // set once
};

absl::Status DrainingError();
absl::Status DeadlineError();

}  // namespace tdp::server

#endif  // SERVER_RPC_CALL_CONTEXT_H_
