// FairQueue: tasks of many peers, taken in turn.
//
// A task waits behind the older tasks of its own peer, and behind at most one
// of each other peer that has any: who queues a thousand delays nobody but
// himself.
//
// New tasks, which the owner may refuse, are counted apart from the next steps
// of older work, which it may not.
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

  enum class Kind { kNew, kNextStep };

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // New tasks that wait, and those of one peer.
  size_t new_count() const { return new_count_; }
  size_t new_count_of(uint64_t peer) const {
    const auto it = peers_.find(peer);
    return it == peers_.end() ? 0 : it->second.new_count;
  }

  void Push(uint64_t peer, Kind kind, Task task) {
    PeerTasks& own = peers_[peer];
    if (own.tasks.empty()) turns_.push_back(peer);
    own.tasks.push_back({kind, std::move(task)});
    ++size_;
    if (kind == Kind::kNew) {
      ++own.new_count;
      ++new_count_;
    }
  }

  // REQUIRES: not empty.
  Task Pop() {
    const uint64_t peer = turns_.front();
    turns_.pop_front();
    const auto it = peers_.find(peer);
    PeerTasks& own = it->second;
    Entry entry = std::move(own.tasks.front());
    own.tasks.pop_front();
    --size_;
    if (entry.kind == Kind::kNew) {
      --own.new_count;
      --new_count_;
    }
    if (own.tasks.empty()) {
      peers_.erase(it);
    } else {
      turns_.push_back(peer);
    }
    return std::move(entry.task);
  }

 private:
  struct Entry {
    Kind kind;
    Task task;
  };
  struct PeerTasks {
    std::deque<Entry> tasks;
    size_t new_count = 0;
  };

  // Peers with tasks, each once, in the order of their turns.
  std::deque<uint64_t> turns_;
  absl::flat_hash_map<uint64_t, PeerTasks> peers_;
  size_t size_ = 0;
  size_t new_count_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_BASE_FAIR_QUEUE_H_
