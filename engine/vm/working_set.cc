#include "engine/vm/working_set.h"

#include <algorithm>
#include <utility>

namespace tdp {

void IdleHistogram::Add(absl::Duration age, int64_t frames) {
  int bucket = 0;
  while (bucket + 1 < kBuckets && age >= MinAge(bucket + 1)) ++bucket;
  counts_[static_cast<size_t>(bucket)] += frames;
}

std::vector<WorkingSetBucket> IdleHistogram::buckets() const {
  std::vector<WorkingSetBucket> buckets;
  for (int i = 0; i < kBuckets; ++i) {
    buckets.push_back({MinAge(i), counts_[static_cast<size_t>(i)]});
  }
  return buckets;
}

int64_t WorkingSetWatchers::Add(absl::Duration interval,
                                std::function<void()> wake,
                                absl::Duration now) {
  Watcher watcher = {
      .interval = interval, .wake = std::move(wake), .due = now - interval};
  if (newest_.has_value() && newest_start_ >= watcher.due) {
    watcher.Take(newest_start_, *newest_);
  }
  watchers_.emplace(next_id_, std::move(watcher));
  return next_id_++;
}

absl::Duration WorkingSetWatchers::NextScan() const {
  absl::Duration pace = absl::InfiniteDuration();
  for (const auto& [id, watcher] : watchers_) {
    pace = std::min(pace, watcher.interval);
  }
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [id, watcher] : watchers_) {
    if (watcher.answered && watcher.interval > pace) continue;
    next = std::min(next, watcher.due);
  }
  return std::max(next, earliest_scan_);
}

void WorkingSetWatchers::Rest(absl::Duration start, absl::Duration end) {
  earliest_scan_ = std::max(start + kMinScanInterval, end + (end - start));
}

void WorkingSetWatchers::Answer(absl::Duration start,
                                const absl::StatusOr<WorkingSet>& answer) {
  if (answer.ok()) {
    newest_ = *answer;
    newest_start_ = start;
  }
  for (auto& [id, watcher] : watchers_) {
    if (watcher.due > start) continue;
    watcher.Take(start, answer);
    watcher.wake();
  }
}

void WorkingSetWatchers::Close() {
  closed_ = true;
  for (auto& [id, watcher] : watchers_) watcher.wake();
}

absl::StatusOr<WorkingSetUpdate> WorkingSetWatchers::Read(int64_t id) {
  const auto found = watchers_.find(id);
  WorkingSetUpdate update = {.closed = closed_ || found == watchers_.end()};
  if (found == watchers_.end()) return update;
  std::optional<absl::StatusOr<WorkingSet>> unread =
      std::exchange(found->second.unread, std::nullopt);
  if (unread.has_value()) {
    if (!unread->ok()) return unread->status();
    update.working_set = **std::move(unread);
  }
  return update;
}

}  // namespace tdp
