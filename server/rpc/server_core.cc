#include "server/rpc/server_core.h"

#include <memory>
#include <vector>

#include "server/rpc/call.h"

namespace tdp::server {

void ServerCore::Enter(Call* call) {
  absl::MutexLock lock(&mutex_);
  active_.insert(call);
}

void ServerCore::Leave(Call* call) {
  absl::MutexLock lock(&mutex_);
  active_.erase(call);
}

void ServerCore::BeginDrain() {
  draining_.store(true, std::memory_order_release);
  for (const std::shared_ptr<Call>& call : ActiveCalls()) call->NoteDraining();
}

void ServerCore::CutOffSlowReaders(int64_t max_rounds) {
  // Relaxed: it orders nothing.
  const int64_t now = epoch_.fetch_add(1, std::memory_order_relaxed) + 1;
  for (const std::shared_ptr<Call>& call : ActiveCalls()) {
    call->CutOffIfSentBy(now - max_rounds);
  }
}

std::vector<std::shared_ptr<Call>> ServerCore::ActiveCalls() {
  std::vector<std::shared_ptr<Call>> calls;
  absl::MutexLock lock(&mutex_);
  calls.reserve(active_.size());
  // A call in the set is alive: it leaves before it is destroyed.
  for (Call* call : active_) calls.push_back(call->shared_from_this());
  return calls;
}

bool ServerCore::WaitUntilIdle(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(
      absl::Condition(
          +[](absl::flat_hash_set<Call*>* active) { return active->empty(); },
          &active_),
      deadline);
}

size_t ServerCore::active_count() const {
  absl::MutexLock lock(&mutex_);
  return active_.size();
}

}  // namespace tdp::server
