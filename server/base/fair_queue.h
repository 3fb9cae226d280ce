// FairQueue: tasks of many peers, taken in turn.
//
// A task waits behind the older tasks of its own peer, and behind at most one
// of each other peer that has any: who queues a thousand delays nobody but
// himself.
//
// Thread safety: none; the owner's lock guards it.

#ifndef SERVER_BASE_FAIR_QUEUE_H_
#define SERVER_BASE_FAIR_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace tdp::server {

class FairQueue {
 public:
  using Task = std::function<void()>;

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // Tasks of one peer that wait.
  size_t size_of(uint64_t peer) const {
    const auto it = tasks_.find(peer);
    return it == tasks_.end() ? 0 : it->second.size();
  }

  void Push(uint64_t peer, Task task) {
    std::deque<Task>& own = tasks_[peer];
    if (own.empty()) turns_.push_back(peer);
    own.push_back(std::move(task));
    ++size_;
  }

  // REQUIRES: not empty.
  Task Pop() {
    const uint64_t peer = turns_.front();
    turns_.pop_front();
    const auto it = tasks_.find(peer);
    Task task = std::move(it->second.front());
    it->second.pop_front();
    if (it->second.empty()) {
      tasks_.erase(it);
    } else {
      turns_.push_back(peer);
    }
    --size_;
    return task;
  }

 private:
  // Peers with tasks, each once, in the order of their turns.
  std::deque<uint64_t> turns_;
  absl::flat_hash_map<uint64_t, std::deque<Task>> tasks_;
  size_t size_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_BASE_FAIR_QUEUE_H_
