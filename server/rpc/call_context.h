// CallContext: what a handler may know about the call that it answers.
//
// It names no transport, so handlers and their tests do without one.
//
// Thread safety: the questions, from any thread. Setters belong to the adapter
// (or a test), before the handler first runs, except those of the call's end.

#ifndef SERVER_RPC_CALL_CONTEXT_H_
#define SERVER_RPC_CALL_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/rpc/method_traits.h"
#include "server/rpc/peer.h"
#include "server/rpc/peer_usage.h"

namespace tdp::server {

class CallContext {
 public:
  CallContext() = default;
  CallContext(const CallContext&) = delete;
  CallContext& operator=(const CallContext&) = delete;

  const MethodTraits& method() const { return *method_; }
  // Who calls; null until a gate has found out.
  const std::shared_ptr<const Peer>& peer() const { return peer_; }
  // When the call came in.
  absl::Time start_time() const { return start_time_; }
  // Infinite for a stream whose caller set none.
  absl::Time deadline() const { return deadline_; }
  // Nobody wants the answer any more: the caller gave up, the deadline passed,
  // or the daemon cannot wait any longer.
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

  // For a unary handler that waits: has `wake` called when nobody wants the
  // answer any more or the daemon drains, right away if that is so already;
  // maybe more than once. A later `wake` replaces it. May be called from any
  // thread, also after the call has ended; must not block. Not called when the
  // deadline passes.
  void WakeAtEnd(std::function<void()> wake) ABSL_LOCKS_EXCLUDED(end_mutex_);

  // The work that the call asked for, in frames of 4 KiB. From the thread that
  // runs the handler.
  void AddWork(int64_t frames) {
    work_.store(work_.load(std::memory_order_relaxed) + frames,
                std::memory_order_relaxed);
    if (usage_ != nullptr) usage_->AddWork(frames);
  }
  int64_t work() const { return work_.load(std::memory_order_relaxed); }

  // What the peer's calls report to; null until a gate wants to hear of it.
  const std::shared_ptr<PeerUsage>& usage() const { return usage_; }
  // Whether an answer may be made now.
  absl::Status CheckRoom() const {
    return usage_ == nullptr ? absl::OkStatus() : usage_->CheckUnsent();
  }

  // Whether the peer may have more work done; asked at each step of a stream
  // that works on many frames.
  absl::Status CheckWork() const {
    return usage_ == nullptr ? absl::OkStatus() : usage_->CheckWork();
  }

  void set_method(const MethodTraits* method) { method_ = method; }
  void set_peer(std::shared_ptr<const Peer> peer) { peer_ = std::move(peer); }
  void set_usage(std::shared_ptr<PeerUsage> usage) {
    usage_ = std::move(usage);
  }
  void set_start_time(absl::Time time) { start_time_ = time; }
  void set_deadline(absl::Time deadline) { deadline_ = deadline; }
  void set_draining(const std::atomic<bool>* flag) { draining_ = flag; }
  void set_waker(std::function<void()> waker) { waker_ = std::move(waker); }
  void Cancel() { SetEnd(End::kGivenUp); }
  // The daemon shuts down and cannot wait any longer.
  void CutOff() { SetEnd(End::kCutOff); }
  // draining() has become true.
  void NoteDraining() { Wake(); }
  // Sequentially consistent, as CutOff(): see Call::OnRequested().
  bool cut_off() const {
    return end_.load(std::memory_order_seq_cst) == End::kCutOff;
  }

 private:
  // Why nobody wants the answer any more; the first reason stays.
  enum class End { kNone, kGivenUp, kCutOff };

  static const MethodTraits kNoMethod;

  void SetEnd(End end) {
    End none = End::kNone;
    end_.compare_exchange_strong(none, end, std::memory_order_seq_cst);
    Wake();
  }
  void Wake() ABSL_LOCKS_EXCLUDED(end_mutex_);

  const MethodTraits* method_ = &kNoMethod;
  std::shared_ptr<const Peer> peer_;
  std::shared_ptr<PeerUsage> usage_;
  absl::Time start_time_ = absl::InfinitePast();
  absl::Time deadline_ = absl::InfiniteFuture();
  const std::atomic<bool>* draining_ = nullptr;
  std::function<void()> waker_ = [] {};
  std::atomic<End> end_ = End::kNone;
  // Orders WakeAtEnd() and what it is to be woken by.
  absl::Mutex end_mutex_;
  std::function<void()> wake_at_end_ ABSL_GUARDED_BY(end_mutex_);
  // One writer at a time; a reader that comes early sees a part of it.
  std::atomic<int64_t> work_ = 0;
};

absl::Status DrainingError();
absl::Status CutOffError();
absl::Status DeadlineError();

}  // namespace tdp::server

#endif  // SERVER_RPC_CALL_CONTEXT_H_
