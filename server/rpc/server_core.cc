#include "server/rpc/server_core.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
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

std::vector<std::shared_ptr<Call>> ServerCore::LivingCalls() const {
  std::vector<std::shared_ptr<Call>> calls;
  absl::MutexLock lock(&mutex_);
  calls.reserve(active_.size());
  for (Call* call : active_) calls.push_back(call->shared_from_this());
  return calls;
}

void ServerCore::BeginDrain() {
  draining_.store(true, std::memory_order_release);
  for (const std::shared_ptr<Call>& call : LivingCalls()) call->NoteDraining();
}

void ServerCore::CutOffAll() {
  for (const std::shared_ptr<Call>& call : LivingCalls()) call->CutOff();
}

void ServerCore::CutOffSlowReaders(int64_t max_rounds) {
  // Relaxed: it orders nothing.
  const int64_t now = epoch_.fetch_add(1, std::memory_order_relaxed) + 1;
  // By client: one that does not read may have many calls.
  std::map<std::string, int64_t> cut_off;
  for (const std::shared_ptr<Call>& call : LivingCalls()) {
    if (call->CutOffIfUnread(now, max_rounds)) {
      ++cut_off[call->Describe().peer];
    }
  }
  for (const auto& [peer, count] : cut_off) {
    Log(Severity::kWarning, "a client does not read; its calls are cut off",
        {{"peer", peer}, {"count", absl::StrCat(count)}});
  }
}

bool ServerCore::WaitUntilIdle(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(
      absl::Condition(
          +[](absl::flat_hash_set<Call*>* active) { return active->empty(); },
          &active_),
      deadline);
}

std::vector<ActiveCall> ServerCore::ActiveCalls() const {
  // Alive while they are in the set; describing one takes no lock.
  absl::MutexLock lock(&mutex_);
  std::vector<ActiveCall> calls;
  calls.reserve(active_.size());
  for (const Call* call : active_) calls.push_back(call->Describe());
  return calls;
}

size_t ServerCore::active_count() const {
  absl::MutexLock lock(&mutex_);
  return active_.size();
}

}  // namespace tdp::server
