// Reloaded: a value made from files that may change, of which the last good one
// holds.
//
// Files that become unreadable or wrong leave the value as it is; the log says
// so, once for each cause in a row, and whoever refreshes tries again.
//
// Thread safety: value(), generation() and the counts from any thread; the rest
// from one thread at a time.

#ifndef SERVER_ACCESS_RELOADED_H_
#define SERVER_ACCESS_RELOADED_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/base/log.h"

namespace tdp::server {

template <typename T>
class Reloaded {
 public:
  // What the log says when the value stays although it was to change, and when
  // it has changed. Literals.
  struct Messages {
    const char* stays;
    const char* changed;
  };

  explicit Reloaded(const Messages& messages) : messages_(messages) {}
  Reloaded(const Reloaded&) = delete;
  Reloaded& operator=(const Reloaded&) = delete;

  // Null before the first Set().
  std::shared_ptr<const T> value() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return value_;
  }
  // Changes with every new value, after value() gives it.
  uint64_t generation() const {
    return generation_.load(std::memory_order_acquire);
  }
  // How often a change was taken, and how often refused.
  int64_t reload_count() const {
    return reload_count_.load(std::memory_order_relaxed);
  }
  int64_t failure_count() const {
    return failure_count_.load(std::memory_order_relaxed);
  }

  // The last try failed. What was in the way may not have been in the files, so
  // the next try is worth it though they are as they were.
  bool failed() const { return !last_error_.empty(); }
  // The value to begin with, which is no change.
  void Set(T value) ABSL_LOCKS_EXCLUDED(mutex_) {
    auto shared = std::make_shared<const T>(std::move(value));
    {
      absl::MutexLock lock(&mutex_);
      value_ = std::move(shared);
    }
    // Pairs with generation(): who sees the number sees the value.
    generation_.fetch_add(1, std::memory_order_release);
  }
  // The files were read, and hold another value,
  void Change(T value) ABSL_LOCKS_EXCLUDED(mutex_) {
    Set(std::move(value));
    last_error_.clear();
    reload_count_.fetch_add(1, std::memory_order_relaxed);
    Log(Severity::kInfo, messages_.changed);
  }
  // or the same one,
  void Keep() { last_error_.clear(); }
  // or they cannot be used.
  void Refuse(const absl::Status& problem) {
    if (problem.message() == last_error_) return;
    last_error_ = std::string(problem.message());
    failure_count_.fetch_add(1, std::memory_order_relaxed);
    Log(Severity::kError, messages_.stays, {{"error", last_error_}});
  }

 private:
  const Messages messages_;
  std::string last_error_;
  std::atomic<uint64_t> generation_ = 0;
  std::atomic<int64_t> reload_count_ = 0;
  std::atomic<int64_t> failure_count_ = 0;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const T> value_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_RELOADED_H_
