#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/testing/fake_vm.h"

namespace tdp::server {
namespace {

constexpr char kDefaultConsumer[] = "default";
constexpr uint64_t kChunkFrames = limits::kDirtyChunkFrames;

}  // namespace

absl::Status FakeVm::CreateDirtyConsumer(absl::string_view id) {
  absl::MutexLock lock(&mutex_);
  if (dirty_.contains(id)) {
    return AlreadyExistsError(
        absl::StrCat("vms/", id_, "/dirtyConsumers/", id));
  }
  if (static_cast<int64_t>(dirty_.size()) >= limits::kMaxDirtyConsumers) {
    return LimitError("max_dirty_consumers", limits::kMaxDirtyConsumers,
                      "delete a consumer first");
  }
  dirty_[std::string(id)];
  return absl::OkStatus();
}

std::vector<std::string> FakeVm::ListDirtyConsumers() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, frames] : dirty_) ids.push_back(id);
  return ids;
}

absl::Status FakeVm::DeleteDirtyConsumer(absl::string_view id) {
  absl::MutexLock lock(&mutex_);
  if (id == kDefaultConsumer) {
    return FieldError("name", id, "a consumer other than \"default\"");
  }
  const auto found = dirty_.find(id);
  if (found == dirty_.end()) {
    return NotFoundError(absl::StrCat("vms/", id_, "/dirtyConsumers/", id));
  }
  dirty_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<FakeVm::LogView> FakeVm::FindLog(absl::string_view memslot_id,
                                                absl::string_view consumer) {
  const auto slot = memslots_.find(memslot_id);
  if (slot == memslots_.end()) {
    return NotFoundError(absl::StrCat("vms/", id_, "/memslots/", memslot_id));
  }
  if (!slot->second.config.dirty_log_enabled) {
    return MakeError(ErrorReason::kDirtyLogOff,
                     "the memslot has no dirty log; set dirty_log_enabled",
                     {{"memslot", std::string(memslot_id)}});
  }
  if (consumer.empty()) consumer = kDefaultConsumer;
  const auto found = dirty_.find(consumer);
  if (found == dirty_.end()) {
    return NotFoundError(
        absl::StrCat("vms/", id_, "/dirtyConsumers/", consumer));
  }
  return LogView{&found->second, RangeOf(slot->second.config)};
}

absl::StatusOr<FrameBitmap> FakeVm::ReadDirtyLog(absl::string_view memslot_id,
                                                 absl::string_view consumer,
                                                 GfnRange range) {
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<LogView> log = FindLog(memslot_id, consumer);
  if (!log.ok()) return log.status();
  const GfnRange cut = range.Intersect(log->frames);
  if (cut.empty()) {
    return FieldError("range", Hex(range.start.value()),
                      "frames of the memslot");
  }
  FrameBitmap result;
  result.first_gfn = cut.start - cut.start.value() % 64;
  const Gfn chunk_end =
      cut.start - cut.start.value() % kChunkFrames + kChunkFrames;
  const Gfn end = std::min(cut.end, chunk_end);
  result.frame_count = static_cast<int64_t>(end - result.first_gfn);
  result.bits.assign(static_cast<size_t>(result.frame_count + 7) / 8, '\0');
  for (auto it = log->dirty->lower_bound(cut.start);
       it != log->dirty->end() && *it < end; ++it) {
    const uint64_t bit = *it - result.first_gfn;
    result.bits[bit / 8] |= static_cast<char>(1 << bit % 8);
  }
  return result;
}

absl::StatusOr<int64_t> FakeVm::ClearDirtyLog(absl::string_view memslot_id,
                                              absl::string_view consumer,
                                              const FrameBitmap& bits) {
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<LogView> log = FindLog(memslot_id, consumer);
  if (!log.ok()) return log.status();
  int64_t cleared = 0;
  for (size_t bit = 0; bit < bits.bits.size() * 8; ++bit) {
    const Gfn gfn = bits.first_gfn + bit;
    if ((bits.bits[bit / 8] >> bit % 8 & 1) == 0) continue;
    if (log->frames.Contains(gfn)) {
      cleared += static_cast<int64_t>(log->dirty->erase(gfn));
    }
  }
  return cleared;
}

void FakeVm::MarkDirtyForTest(Gfn gfn) {
  absl::MutexLock lock(&mutex_);
  for (auto& [consumer, frames] : dirty_) frames.insert(gfn);
}

std::vector<WaitingAccess> FakeVm::ListWaitingAccesses() const {
  absl::MutexLock lock(&mutex_);
  std::vector<WaitingAccess> accesses;
  for (const auto& [id, access] : waiting_) accesses.push_back(access);
  return accesses;
}

absl::Status FakeVm::ResolveAccess(int64_t access_id, Verdict verdict) {
  absl::MutexLock lock(&mutex_);
  const auto found = waiting_.find(access_id);
  if (found == waiting_.end()) {
    return NotFoundError(
        absl::StrCat("vms/", id_, "/waitingAccesses/", access_id));
  }
  verdicts_.emplace_back(access_id, verdict);
  if (verdict != Verdict::kRetry) waiting_.erase(found);
  return absl::OkStatus();
}

void FakeVm::AddWaitingAccessForTest(const WaitingAccess& access) {
  absl::MutexLock lock(&mutex_);
  waiting_[access.access_id] = access;
}

std::vector<std::pair<int64_t, Verdict>> FakeVm::verdicts_for_test() const {
  absl::MutexLock lock(&mutex_);
  return verdicts_;
}

}  // namespace tdp::server
