#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "server/testing/fake_vm.h"

namespace tdp::server {

absl::Status FakeVm::CheckRange(GfnRange range) {
  if (range.empty()) {
    return FieldError("range.end_gfn", Hex(range.end.value()),
                      "greater than start_gfn");
  }
  if (range.end.value() > kRootFrames) {
    return FieldError("range.end_gfn", Hex(range.end.value()),
                      absl::StrCat("at most ", Hex(kRootFrames),
                                   ", the span of the page tables"));
  }
  return absl::OkStatus();
}

GfnRange FakeVm::RangeOf(const MemslotConfig& config) {
  return {config.base_gfn,
          config.base_gfn + static_cast<uint64_t>(config.frame_count)};
}

const MemslotInfo* FakeVm::SlotOf(Gfn gfn) const {
  for (const auto& [id, slot] : memslots_) {
    if (RangeOf(slot.config).Contains(gfn)) return &slot;
  }
  return nullptr;
}

absl::StatusOr<RangeProgress> FakeVm::MapRange(GfnRange range, int, bool write,
                                               const WorkBudget& budget) {
  std::function<void(const WorkBudget&)> hook;
  {
    absl::MutexLock lock(&mutex_);
    hook = map_hook_;
  }
  if (hook) hook(budget);
  absl::MutexLock lock(&mutex_);
  const absl::Status checked = CheckRange(range);
  if (!checked.ok()) return checked;
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    if (SlotOf(gfn) == nullptr) return GfnNotBackedError(gfn);
  }
  RangeProgress progress{range.end, 0};
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    if (mapped_.emplace(gfn, write).second) ++progress.changed;
  }
  return progress;
}

absl::StatusOr<RangeProgress> FakeVm::ZapRange(GfnRange range,
                                               const WorkBudget&) {
  absl::MutexLock lock(&mutex_);
  const absl::Status checked = CheckRange(range);
  if (!checked.ok()) return checked;
  const auto first = mapped_.lower_bound(range.start);
  const auto last = mapped_.lower_bound(range.end);
  RangeProgress progress{range.end, std::distance(first, last)};
  mapped_.erase(first, last);
  return progress;
}

absl::StatusOr<int> FakeVm::ZapAll(bool) {
  absl::MutexLock lock(&mutex_);
  mapped_.clear();
  return 1;
}

SpteView FakeVm::ViewOf(Gfn gfn) const {
  SpteView view;
  view.base_gfn = gfn;
  view.raw = uint64_t{1} << 63;
  const auto found = mapped_.find(gfn);
  if (found == mapped_.end()) return view;
  view.raw = (gfn.value() << kPageShift) | 0x800;
  view.present = view.leaf = view.accessed = true;
  view.pfn = Pfn(gfn.value());
  view.access = {true, found->second};
  return view;
}

absl::StatusOr<std::vector<SpteView>> FakeVm::WalkGfn(Gfn gfn) const {
  absl::MutexLock lock(&mutex_);
  if (gfn.value() >= kRootFrames) {
    return FieldError("gfn", Hex(gfn.value()), "below the root's span");
  }
  std::vector<SpteView> path;
  for (PageLevel level = PageLevel::k512G; level > PageLevel::k4K;
       level = ChildLevel(level)) {
    SpteView& table = path.emplace_back();
    table.level = level;
    table.base_gfn = AlignDown(gfn, level);
    table.present = true;
  }
  path.push_back(ViewOf(gfn));
  return path;
}

absl::StatusOr<Gfn> FakeVm::WalkRange(GfnRange range,
                                      const WalkRangeOptions& options,
                                      size_t max_entries,
                                      std::vector<SpteView>& out) const {
  WalkHook hook;
  {
    absl::MutexLock lock(&mutex_);
    hook = walk_hook_;
  }
  if (hook) return hook(range, options, max_entries, out);
  absl::MutexLock lock(&mutex_);
  const absl::Status checked = CheckRange(range);
  if (!checked.ok()) return checked;
  range.start = std::max(range.start, options.resume_gfn);
  const Gfn start = std::max(range.start, options.resume_gfn);
  if (options.present_only) {
    for (auto it = mapped_.lower_bound(start); it != mapped_.end(); ++it) {
      if (it->first >= range.end) break;
      if (out.size() == max_entries) return it->first;
      out.push_back(ViewOf(it->first));
    }
    return range.end;
  }
  for (Gfn gfn = start; gfn < range.end; gfn += 1) {
    if (out.size() == max_entries) return gfn;
    out.push_back(ViewOf(gfn));
  }
  return range.end;
}

void FakeVm::SetWalkHookForTest(WalkHook hook) {
  absl::MutexLock lock(&mutex_);
  walk_hook_ = std::move(hook);
}

absl::StatusOr<WalkFramesResult> FakeVm::WalkFrames(
    absl::Span<const uint64_t> gfns) const {
  absl::MutexLock lock(&mutex_);
  WalkFramesResult result;
  for (const uint64_t gfn : gfns) {
    result.raw_sptes.push_back(ViewOf(Gfn(gfn)).raw);
    result.levels.push_back(1);
  }
  return result;
}

absl::Status FakeVm::ViewFrames(absl::Span<const uint64_t> gfns,
                                std::vector<SpteView>& out) const {
  absl::MutexLock lock(&mutex_);
  out.clear();
  for (size_t i = 0; i < gfns.size(); ++i) {
    if (gfns[i] >= kRootFrames) {
      return FieldError(absl::StrCat("gfns[", i, "]"), Hex(gfns[i]),
                        "below the root's span");
    }
    out.push_back(ViewOf(Gfn(gfns[i])));
  }
  return absl::OkStatus();
}

absl::StatusOr<AuditResult> FakeVm::AuditRange(GfnRange range,
                                               int max_divergences,
                                               const WorkBudget&) {
  absl::MutexLock lock(&mutex_);
  const absl::Status checked = CheckRange(range);
  if (!checked.ok()) return checked;
  if (max_divergences < 0) {
    return FieldError("max_divergences", absl::StrCat(max_divergences),
                      "0 or more");
  }
  AuditResult result;
  result.next_gfn = range.end;
  for (auto it = mapped_.lower_bound(range.start);
       it != mapped_.end() && it->first < range.end; ++it) {
    ++result.compared_frame_count;
    // What a read-only mapping of the fake lacks counts as legal strictness.
    if (it->second) continue;
    ++result.host_stricter_frame_count;
    if (static_cast<int>(result.divergences.size()) < max_divergences) {
      result.divergences.push_back({it->first, ViewOf(it->first), true, false});
    }
  }
  return result;
}

absl::Status FakeVm::CheckBacked(Gpa gpa, uint64_t size) const {
  absl::MutexLock lock(&mutex_);
  const Gfn last = GfnOf(gpa + (size - 1));
  for (Gfn gfn = GfnOf(gpa); gfn <= last; gfn += 1) {
    if (SlotOf(gfn) == nullptr) return GfnNotBackedError(gfn);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> FakeVm::ReadMemory(Gpa gpa, uint64_t size) {
  const absl::Status checked = CheckBacked(gpa, size);
  if (!checked.ok()) return checked;
  absl::MutexLock lock(&mutex_);
  std::string data(size, '\0');
  for (auto it = bytes_.lower_bound(gpa.value());
       it != bytes_.end() && it->first < gpa.value() + size; ++it) {
    data[it->first - gpa.value()] = it->second;
  }
  return data;
}

absl::Status FakeVm::WriteMemory(Gpa gpa, absl::string_view data) {
  const absl::Status checked = CheckBacked(gpa, data.size());
  if (!checked.ok()) return checked;
  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    if (i == fail_write_after_) {
      fail_write_after_ = ~uint64_t{0};
      return MakeError(ErrorReason::kHostMemoryExhausted,
                       "the host has no memory left",
                       {{"writtenBytes", absl::StrCat(i)}});
    }
    bytes_[gpa.value() + i] = data[i];
    const Gfn gfn = GfnOf(gpa + i);
    if (!SlotOf(gfn)->config.dirty_log_enabled) continue;
    for (auto& [consumer, frames] : dirty_) frames.insert(gfn);
  }
  return absl::OkStatus();
}

absl::StatusOr<DiscardResult> FakeVm::DiscardRange(GfnRange range,
                                                   const WorkBudget& budget) {
  std::function<void(const WorkBudget&)> hook;
  {
    absl::MutexLock lock(&mutex_);
    hook = map_hook_;
  }
  if (hook) hook(budget);
  absl::MutexLock lock(&mutex_);
  const absl::Status checked = CheckRange(range);
  if (!checked.ok()) return checked;
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    if (SlotOf(gfn) == nullptr) return GfnNotBackedError(gfn);
  }
  if (budget.cancelled && budget.cancelled())
    return DiscardResult{range.start, 0};
  const auto first = mapped_.lower_bound(range.start);
  const auto last = mapped_.lower_bound(range.end);
  DiscardResult result{
      range.end, std::distance(first, last) * static_cast<int64_t>(kPageSize)};
  mapped_.erase(first, last);
  bytes_.erase(bytes_.lower_bound(range.start.value() << kPageShift),
               bytes_.lower_bound(range.end.value() << kPageShift));
  return result;
}

VmStats FakeVm::Stats() const {
  absl::MutexLock lock(&mutex_);
  VmStats stats;
  stats.sample_time = absl::Now();
  stats.leaf_4k_count = static_cast<int64_t>(mapped_.size());
  stats.fault_outcomes.push_back({"fixed", 3, {1, 2}});
  return stats;
}

absl::StatusOr<EventBatch> FakeVm::ReadEvents(int64_t start_sequence,
                                              size_t max_events) const {
  absl::MutexLock lock(&mutex_);
  EventBatch batch;
  batch.closed = closed_;
  batch.next_sequence = start_sequence == 0 ? next_sequence_ : start_sequence;
  const int64_t first =
      events_.empty() ? next_sequence_ : events_.front().sequence;
  if (batch.next_sequence < first) {
    return MakeError(
        ErrorReason::kEventsTruncated,
        absl::StrCat("events before ", first, " are no longer kept"),
        {{"oldestSequence", absl::StrCat(first)}});
  }
  for (const Event& event : events_) {
    if (event.sequence < batch.next_sequence) continue;
    if (batch.events.size() == max_events) break;
    batch.events.push_back(event);
    batch.next_sequence = event.sequence + 1;
  }
  return batch;
}

int64_t FakeVm::AddEventListener(std::function<void()> wake) {
  absl::MutexLock lock(&listener_mutex_);
  listeners_.emplace(next_listener_, std::move(wake));
  return next_listener_++;
}

void FakeVm::RemoveEventListener(int64_t id) {
  absl::MutexLock lock(&listener_mutex_);
  listeners_.erase(id);
}

void FakeVm::AddEvent(decltype(Event::detail) detail) {
  {
    absl::MutexLock lock(&mutex_);
    events_.push_back({next_sequence_++, absl::Now(), std::move(detail)});
  }
  absl::MutexLock lock(&listener_mutex_);
  for (const auto& [id, wake] : listeners_) wake();
}

void FakeVm::SetMapHookForTest(std::function<void(const WorkBudget&)> hook) {
  absl::MutexLock lock(&mutex_);
  map_hook_ = std::move(hook);
}

void FakeVm::FailWriteAfterForTest(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  fail_write_after_ = bytes;
}

void FakeVm::AddEventForTest(decltype(Event::detail) detail) {
  AddEvent(std::move(detail));
}

void FakeVm::DropEventsBeforeForTest(int64_t sequence) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(events_,
                [&](const Event& event) { return event.sequence < sequence; });
}

void FakeVm::ExitVcpuForTest(int index, absl::string_view reason) {
  {
    absl::MutexLock lock(&mutex_);
    vcpus_[index].state = VcpuState::kExited;
    vcpus_[index].exit_reason = std::string(reason);
  }
  AddEvent(VcpuExitedEvent{index, std::string(reason)});
}

void FakeVm::SetConsoleForTest(int index, absl::string_view console) {
  absl::MutexLock lock(&mutex_);
  vcpus_[index].console = std::string(console);
}

void FakeVm::CloseForTest() {
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  absl::MutexLock lock(&listener_mutex_);
  for (const auto& [id, wake] : listeners_) wake();
  for (const auto& [id, watcher] : watchers_) watcher.wake();
}

int FakeVm::ListenerCountForTest() const {
  absl::MutexLock lock(&listener_mutex_);
  return static_cast<int>(listeners_.size());
}

GuestConfig FakeVm::guest_for_test() const {
  absl::MutexLock lock(&mutex_);
  return guest_;
}

}  // namespace tdp::server
