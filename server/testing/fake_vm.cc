#include "server/testing/fake_vm.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"

namespace tdp::server {
namespace {

absl::Status CheckEtag(absl::string_view given, absl::string_view current) {
  if (given.empty() || given == current) return absl::OkStatus();
  return MakeError(ErrorReason::kEtagMismatch,
                   "the etag is stale; read the resource again",
                   {{"etag", std::string(given)}});
}

}  // namespace

FakeVm::FakeVm(absl::string_view id, const VmConfig& config)
    : id_(id), create_time_(absl::Now()), config_(config) {
  if (config_.root_level == 0) config_.root_level = 4;
  if (config_.page_table_limit_bytes == 0) {
    config_.page_table_limit_bytes = limits::kDefaultPageTableLimitBytes;
  }
  for (int i = 0; i < config.vcpu_count; ++i) {
    vcpus_.emplace_back().index = i;
  }
  waiter_thread_ = std::thread([this] { RunWaiters(); });
}

FakeVm::~FakeVm() { EndThread(); }

void FakeVm::EndThread() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (waiter_thread_.joinable()) waiter_thread_.join();
}

VmInfo FakeVm::DescribeLocked() const {
  return {id_, config_, state_, create_time_, absl::StrCat(generation_)};
}

VmInfo FakeVm::Describe() const {
  absl::MutexLock lock(&mutex_);
  return DescribeLocked();
}

absl::StatusOr<VmInfo> FakeVm::SetLabels(
    std::map<std::string, std::string> labels, absl::string_view etag) {
  absl::MutexLock lock(&mutex_);
  const absl::Status checked = CheckEtag(etag, absl::StrCat(generation_));
  if (!checked.ok()) return checked;
  config_.labels = std::move(labels);
  ++generation_;
  return DescribeLocked();
}

absl::StatusOr<VmInfo> FakeVm::Change(VmState to, std::vector<VmState> from) {
  VmInfo info;
  VmState old;
  {
    absl::MutexLock lock(&mutex_);
    old = state_;
    if (old == to) return DescribeLocked();
    if (std::find(from.begin(), from.end(), old) == from.end()) {
      return MakeError(ErrorReason::kVmStateConflict,
                       absl::StrCat("vms/", id_, " is in the wrong state"));
    }
    state_ = to;
    ++generation_;
    info = DescribeLocked();
  }
  AddEvent(VmStateChangedEvent{old, to});
  return info;
}

absl::StatusOr<VmInfo> FakeVm::Start() {
  {
    absl::MutexLock lock(&mutex_);
    if (!guest_loaded_) {
      return MakeError(ErrorReason::kVmStateConflict,
                       absl::StrCat("vms/", id_, " has no guest"));
    }
  }
  return Change(VmState::kRunning, {VmState::kCreated, VmState::kStopped});
}
absl::StatusOr<VmInfo> FakeVm::Pause() {
  return Change(VmState::kPaused, {VmState::kRunning});
}
absl::StatusOr<VmInfo> FakeVm::Resume() {
  return Change(VmState::kRunning, {VmState::kPaused});
}
absl::StatusOr<VmInfo> FakeVm::Stop() {
  return Change(VmState::kStopped, {VmState::kRunning, VmState::kPaused});
}

absl::Status FakeVm::LoadGuest(int index, const GuestConfig& guest) {
  absl::MutexLock lock(&mutex_);
  if (index >= static_cast<int>(vcpus_.size())) {
    return NotFoundError(absl::StrCat("vms/", id_, "/vcpus/", index));
  }
  guest_loaded_ = true;
  guest_ = guest;
  return absl::OkStatus();
}

absl::StatusOr<VcpuInfo> FakeVm::GetVcpu(int index) const {
  absl::MutexLock lock(&mutex_);
  if (index < 0 || index >= static_cast<int>(vcpus_.size())) {
    return NotFoundError(absl::StrCat("vms/", id_, "/vcpus/", index));
  }
  return vcpus_[index];
}

std::vector<VcpuInfo> FakeVm::ListVcpus() const {
  absl::MutexLock lock(&mutex_);
  return vcpus_;
}

absl::StatusOr<int64_t> FakeVm::WaitVcpu(int index, absl::Time deadline,
                                         std::function<void(VcpuInfo)> done) {
  absl::MutexLock lock(&mutex_);
  if (index < 0 || index >= static_cast<int>(vcpus_.size())) {
    return NotFoundError(absl::StrCat("vms/", id_, "/vcpus/", index));
  }
  waiters_.push_back({++wait_count_, index, deadline, std::move(done)});
  return wait_count_;
}

void FakeVm::EndWait(int64_t wait_id) {
  Waiter ended;
  {
    absl::MutexLock lock(&mutex_);
    const auto it =
        std::find_if(waiters_.begin(), waiters_.end(),
                     [&](const Waiter& w) { return w.id == wait_id; });
    if (it == waiters_.end()) return;
    ended = std::move(*it);
    waiters_.erase(it);
  }
  ended.done(*GetVcpu(ended.index));
}

int64_t FakeVm::WaitCountForTest() const {
  absl::MutexLock lock(&mutex_);
  return wait_count_;
}

bool FakeVm::HasRunnableWaiter() const {
  if (stopping_) return true;
  return std::any_of(waiters_.begin(), waiters_.end(), [&](const Waiter& w) {
    mutex_.AssertReaderHeld();
    return vcpus_[w.index].state == VcpuState::kExited;
  });
}

void FakeVm::RunWaiters() {
  bool stopping = false;
  while (!stopping) {
    std::vector<std::pair<std::function<void(VcpuInfo)>, VcpuInfo>> due;
    {
      absl::MutexLock lock(&mutex_);
      // A deadline may be added at any time, so look every few milliseconds.
      mutex_.AwaitWithTimeout(absl::Condition(this, &FakeVm::HasRunnableWaiter),
                              absl::Milliseconds(5));
      stopping = stopping_;
      const absl::Time now = absl::Now();
      for (auto it = waiters_.begin(); it != waiters_.end();) {
        const VcpuInfo& vcpu = vcpus_[it->index];
        if (stopping || now >= it->deadline ||
            vcpu.state == VcpuState::kExited) {
          due.emplace_back(std::move(it->done), vcpu);
          it = waiters_.erase(it);
        } else {
          ++it;
        }
      }
    }
    for (auto& [done, vcpu] : due) done(vcpu);
  }
}

absl::StatusOr<MemslotInfo> FakeVm::CreateMemslot(absl::string_view id,
                                                  const MemslotConfig& config,
                                                  bool validate_only) {
  MemslotInfo info{std::string(id), config, "1"};
  {
    absl::MutexLock lock(&mutex_);
    const absl::Status checked = CheckRange(RangeOf(config));
    if (!checked.ok()) return checked;
    if (memslots_.contains(id)) {
      return AlreadyExistsError(absl::StrCat("vms/", id_, "/memslots/", id));
    }
    for (const auto& [other_id, other] : memslots_) {
      if (RangeOf(other.config).Overlaps(RangeOf(config))) {
        return MakeError(ErrorReason::kMemslotOverlap,
                         absl::StrCat("the memslot overlaps ", other_id),
                         {{"other", other_id}});
      }
    }
    if (info.config.fault_policy == FaultPolicy::kUnspecified) {
      info.config.fault_policy = FaultPolicy::kMap;
    }
    if (validate_only) return info;
    memslots_.emplace(std::string(id), info);
  }
  AddEvent(MemslotChangedEvent{std::string(id), false});
  return info;
}

absl::StatusOr<MemslotInfo> FakeVm::GetMemslot(absl::string_view id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = memslots_.find(id);
  if (found == memslots_.end()) {
    return NotFoundError(absl::StrCat("vms/", id_, "/memslots/", id));
  }
  return found->second;
}

std::vector<MemslotInfo> FakeVm::ListMemslots() const {
  absl::MutexLock lock(&mutex_);
  std::vector<MemslotInfo> slots;
  for (const auto& [id, slot] : memslots_) slots.push_back(slot);
  std::sort(slots.begin(), slots.end(),
            [](const MemslotInfo& a, const MemslotInfo& b) {
              return a.config.base_gfn < b.config.base_gfn;
            });
  return slots;
}

absl::StatusOr<MemslotInfo> FakeVm::UpdateMemslot(absl::string_view id,
                                                  const MemslotUpdate& update,
                                                  absl::string_view etag) {
  MemslotInfo result;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = memslots_.find(id);
    if (found == memslots_.end()) {
      return NotFoundError(absl::StrCat("vms/", id_, "/memslots/", id));
    }
    MemslotInfo& info = found->second;
    const absl::Status checked = CheckEtag(etag, info.etag);
    if (!checked.ok()) return checked;
    MemslotConfig& config = info.config;
    if (update.base_gfn) config.base_gfn = *update.base_gfn;
    if (update.read_only) config.read_only = *update.read_only;
    if (update.dirty_log_enabled) {
      config.dirty_log_enabled = *update.dirty_log_enabled;
    }
    if (update.fault_policy) config.fault_policy = *update.fault_policy;
    if (update.map_around_frame_count) {
      config.map_around_frame_count = *update.map_around_frame_count;
    }
    if (update.dirty_log_initially_set) {
      config.dirty_log_initially_set = *update.dirty_log_initially_set;
    }
    info.etag = absl::StrCat(info.etag, "x");
    result = info;
  }
  AddEvent(MemslotChangedEvent{std::string(id), false});
  return result;
}

absl::Status FakeVm::DeleteMemslot(absl::string_view id,
                                   absl::string_view etag) {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = memslots_.find(id);
    if (found == memslots_.end()) {
      return NotFoundError(absl::StrCat("vms/", id_, "/memslots/", id));
    }
    const absl::Status checked = CheckEtag(etag, found->second.etag);
    if (!checked.ok()) return checked;
    const GfnRange range = RangeOf(found->second.config);
    mapped_.erase(mapped_.lower_bound(range.start),
                  mapped_.lower_bound(range.end));
    memslots_.erase(found);
  }
  AddEvent(MemslotChangedEvent{std::string(id), true});
  return absl::OkStatus();
}

}  // namespace tdp::server
