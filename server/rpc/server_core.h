// ServerCore: what all calls of a server share.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_RPC_SERVER_CORE_H_
#define SERVER_RPC_SERVER_CORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/executor.h"

namespace tdp::server {

class Call;
class CallGate;

// A call that is under way, as a state dump shows it.
struct ActiveCall {
  std::string method;
  std::string peer;                              // empty: not known yet
  absl::Time start_time = absl::InfinitePast();  // or not let in yet
  int64_t work = 0;
  bool cancelled = false;
};

class ServerCore {
 public:
  // Of a message a caller is to read `min_bytes_per_round`, at least, between
  // two rounds of CutOffSlowReaders().
  ServerCore(Executor& executor, absl::Duration default_deadline,
             int64_t min_bytes_per_round, std::vector<CallGate*> gates)
      : executor_(executor),
        default_deadline_(default_deadline),
        min_bytes_per_round_(min_bytes_per_round),
        gates_(std::move(gates)) {}

  Executor& executor() { return executor_; }
  absl::Duration default_deadline() const { return default_deadline_; }
  // In the order in which a call passes them.
  const std::vector<CallGate*>& gates() const { return gates_; }
  const std::atomic<bool>& draining() const { return draining_; }

  // A call is under way from Enter() to Leave(), which follows its last
  // operation on a completion queue.
  void Enter(Call* call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(Call* call) ABSL_LOCKS_EXCLUDED(mutex_);

  // Counts the rounds of CutOffSlowReaders(), from 1 on.
  int64_t epoch() const { return epoch_.load(std::memory_order_relaxed); }
  // Rounds that `bytes` may take to be read.
  int64_t RoundsToRead(int64_t bytes) const {
    return bytes / min_bytes_per_round_;
  }
  // One round: cuts off the calls whose callers have not read what was sent to
  // them `max_rounds` rounds ago, and RoundsToRead() of what they have unread.
  void CutOffSlowReaders(int64_t max_rounds) ABSL_LOCKS_EXCLUDED(mutex_);

  // Sets draining() and tells every call under way.
  void BeginDrain() ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls CutOff() of every call under way.
  void CutOffAll() ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns whether no call is under way; waits until then or `deadline`.
  bool WaitUntilIdle(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  // In no order.
  std::vector<ActiveCall> ActiveCalls() const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t active_count() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // All are alive: a call leaves before it is destroyed.
  std::vector<std::shared_ptr<Call>> LivingCalls() const
      ABSL_LOCKS_EXCLUDED(mutex_);

  Executor& executor_;
  const absl::Duration default_deadline_;
  const int64_t min_bytes_per_round_;
  const std::vector<CallGate*> gates_;
  std::atomic<bool> draining_ = false;  // set once
  std::atomic<int64_t> epoch_ = 1;
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<Call*> active_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_RPC_SERVER_CORE_H_
