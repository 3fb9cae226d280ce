// EventLog: what happened to a VM, in order, bounded.
//
// The first event has sequence 1. The log keeps the last
// limits::kMaxKeptEvents events; a reader that asks for older ones is told so.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_VM_EVENT_LOG_H_
#define ENGINE_VM_EVENT_LOG_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "engine/sync/mutex.h"
#include "engine/vm/vm_types.h"

namespace tdp {

class EventLog {
 public:
  using Detail = decltype(Event::detail);

  // Appends an event and wakes the listeners.
  void Append(Detail detail);
  // No event follows; wakes the listeners.
  void Close();

  // Events from `start_sequence` on, at most `max_events`; 0: from the next
  // event on. EVENTS_TRUNCATED if they are no longer kept, FIELD_INVALID for a
  // negative start.
  absl::StatusOr<EventBatch> Read(int64_t start_sequence,
                                  size_t max_events) const;

  // `wake` runs in whatever thread appends. It must not block or use the log.
  // After RemoveListener() has returned it does not run.
  int64_t AddListener(std::function<void()> wake);
  void RemoveListener(int64_t id);

 private:
  void WakeListeners() ABSL_LOCKS_EXCLUDED(mutex_, listeners_mutex_);

  mutable Mutex mutex_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
  int64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;

  // Held while listeners run.
  Mutex listeners_mutex_;
  std::map<int64_t, std::function<void()>> listeners_
      ABSL_GUARDED_BY(listeners_mutex_);
  int64_t next_listener_id_ ABSL_GUARDED_BY(listeners_mutex_) = 1;
};

}  // namespace tdp

#endif  // ENGINE_VM_EVENT_LOG_H_
