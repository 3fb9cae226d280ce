#include "engine/vm/event_log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"

namespace tdp {

void EventLog::Append(Detail detail) {
  {
    MutexLock lock(mutex_);
    events_.push_back({.sequence = next_sequence_++,
                       .time = absl::Now(),
                       .detail = std::move(detail)});
    if (events_.size() > limits::kMaxKeptEvents) events_.pop_front();
  }
  WakeListeners();
}

void EventLog::Close() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
  }
  WakeListeners();
}

absl::StatusOr<EventBatch> EventLog::Read(int64_t start_sequence,
                                          size_t max_events) const {
  if (start_sequence < 0) {
    return FieldError("start_sequence", absl::StrCat(start_sequence),
                      "0 for new events only, or the sequence of an event");
  }
  MutexLock lock(mutex_);
  const int64_t first = next_sequence_ - static_cast<int64_t>(events_.size());
  EventBatch batch;
  batch.next_sequence = start_sequence == 0 ? next_sequence_ : start_sequence;
  batch.closed = closed_;
  if (batch.next_sequence > next_sequence_) {
    return FieldError("start_sequence", absl::StrCat(start_sequence),
                      absl::StrCat("at most ", next_sequence_,
                                   ", the sequence of the next event"));
  }
  if (batch.next_sequence < first) {
    return MakeError(
        ErrorReason::kEventsTruncated,
        absl::StrCat("event ", start_sequence,
                     " is no longer kept; the oldest one kept is ", first,
                     ", and the state of the VM can be read anew"),
        {{"startSequence", absl::StrCat(start_sequence)},
         {"oldestSequence", absl::StrCat(first)}});
  }
  for (;
       batch.next_sequence < next_sequence_ && batch.events.size() < max_events;
       ++batch.next_sequence) {
    batch.events.push_back(
        events_[static_cast<size_t>(batch.next_sequence - first)]);
  }
  return batch;
}

int64_t EventLog::AddListener(std::function<void()> wake) {
  MutexLock lock(listeners_mutex_);
  const int64_t id = next_listener_id_++;
  listeners_.emplace(id, std::move(wake));
  return id;
}

void EventLog::RemoveListener(int64_t id) {
  MutexLock lock(listeners_mutex_);
  listeners_.erase(id);
}

void EventLog::WakeListeners() {
  MutexLock lock(listeners_mutex_);
  for (const auto& [id, wake] : listeners_) wake();
}

}  // namespace tdp
