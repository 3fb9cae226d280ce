// Memslots of a VM: create, look, change, move, delete.

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

bool NeverStop() { return false; }

bool HostSwaps() {
  std::ifstream swaps("/proc/swaps");
  std::string line;
  std::getline(swaps, line);  // the heading
  return static_cast<bool>(std::getline(swaps, line));
}

PageLevel HostPageLevelOf(const MemslotConfig& config) {
  return static_cast<PageLevel>(config.host_page_level);
}

absl::Status CheckHostPageMultiples(const MemslotConfig& config) {
  const PageLevel level = HostPageLevelOf(config);
  const auto frames = static_cast<uint64_t>(config.frame_count);
  const std::string rule =
      absl::StrCat("a multiple of ", FramesPerEntry(level),
                   ", because the host pages of the memslot are of 2M");
  if (!IsAligned(config.base_gfn.value(), level)) {
    return FieldError("memslot.base_gfn", Hex(config.base_gfn.value()), rule);
  }
  if (!IsAligned(frames, level)) {
    return FieldError("memslot.frame_count", absl::StrCat(frames), rule);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status VmImpl::CheckFrames(Gfn base, int64_t frame_count) const {
  if (frame_count < 1 || frame_count > limits::kMaxMemslotFrames) {
    return FieldError(
        "memslot.frame_count", absl::StrCat(frame_count),
        absl::StrCat("between 1 and ", limits::kMaxMemslotFrames));
  }
  // The first comparison keeps the second one from overflowing.
  if (base > max_gfn_ ||
      static_cast<uint64_t>(frame_count) > max_gfn_ - base + 1) {
    return FieldError(
        "memslot.base_gfn", Hex(base.value()),
        absl::StrCat("such that the last frame is at most ",
                     Hex(max_gfn_.value()), ", the max_gfn of the VM"));
  }
  return absl::OkStatus();
}

absl::Status VmImpl::CheckMemslotConfig(MemslotConfig& config) const {
  if (absl::Status s = CheckFrames(config.base_gfn, config.frame_count);
      !s.ok()) {
    return s;
  }
  if (config.host_page_level == 0) config.host_page_level = 1;
  if (absl::Status s =
          CheckLevel("memslot.host_page_level", config.host_page_level, 1, 2,
                     "PAGE_LEVEL_4K (the default) or "
                     "PAGE_LEVEL_2M");
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckHostPageMultiples(config); !s.ok()) return s;
  if (config.map_around_frame_count < 0 ||
      config.map_around_frame_count > limits::kMaxMapAroundFrames) {
    return FieldError("memslot.map_around_frame_count",
                      absl::StrCat(config.map_around_frame_count),
                      absl::StrCat("0 to ", limits::kMaxMapAroundFrames));
  }
  if (config.dirty_mode == DirtyMode::kUnspecified) {
    config.dirty_mode =
        kvm_vm_ != nullptr ? DirtyMode::kHarvest : DirtyMode::kWriteProtect;
  }
  if (config.read_only && NotesWrites(config)) {
    return FieldError(
        "memslot.read_only", "true",
        "false with HYPERVISOR_SOFTWARE and DIRTY_MODE_HARVEST, which cannot "
        "hold a write back; use DIRTY_MODE_WRITE_PROTECT");
  }
  if (config.fault_policy == FaultPolicy::kUnspecified) {
    config.fault_policy = FaultPolicy::kMap;
  }
  return absl::OkStatus();
}

bool VmImpl::NotesWrites(const MemslotConfig& config) const {
  return kvm_vm_ == nullptr && config.dirty_mode == DirtyMode::kHarvest;
}

MemslotInfo VmImpl::DescribeRecord(absl::string_view id,
                                   const MemslotRecord& record) const {
  return {.id = std::string(id),
          .config = record.config,
          .etag = absl::StrCat(record.version)};
}

uint32_t VmImpl::FreeKvmSlotId() const {
  // Slot 0 is the private one.
  for (uint32_t candidate = 1;; ++candidate) {
    const bool taken =
        std::any_of(records_.begin(), records_.end(), [&](const auto& entry) {
          return entry.second.kvm_slot_id == candidate;
        });
    if (!taken) return candidate;
  }
}

absl::Status VmImpl::SetKvmMemslot(const MemslotRecord& record, Gfn base) {
  if (kvm_vm_ == nullptr) return absl::OkStatus();
  return kvm_vm_->SetMemslot(
      {.id = record.kvm_slot_id,
       .gpa = GpaOf(base),
       .size = record.memslot->size_bytes(),
       .hva = record.memslot->window_hva(),
       .log_dirty_pages =
           record.memslot->dirty_log().mode() == DirtyLog::Mode::kHarvests});
}

absl::StatusOr<MemslotInfo> VmImpl::CreateMemslot(absl::string_view id,
                                                  const MemslotConfig& wanted,
                                                  bool validate_only) {
  if (absl::Status s = CheckUsable("take a memslot"); !s.ok()) return s;
  MemslotRecord record = {.config = wanted};
  if (absl::Status s = CheckMemslotConfig(record.config); !s.ok()) return s;
  const MemslotConfig& config = record.config;
  const std::string memslot_name = absl::StrCat(name(), "/memslots/", id);
  const GfnRange range = {
      config.base_gfn,
      config.base_gfn + static_cast<uint64_t>(config.frame_count)};

  if (NotesWrites(config) && HostSwaps()) {
    return MakeError(
        ErrorReason::kCapabilityMissing,
        "a window of the software hypervisor loses what the kernel has noted "
        "of a page that is swapped out, and this host swaps; use "
        "DIRTY_MODE_WRITE_PROTECT or switch swapping off",
        {{"capability", "no swap"}});
  }

  MutexLock lifecycle(lifecycle_mutex_);
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  {
    MutexLock lock(state_mutex_);
    if (records_.contains(std::string(id))) {
      return AlreadyExistsError(memslot_name);
    }
    record.kvm_slot_id = FreeKvmSlotId();
  }
  if (absl::Status s = memslots_.CheckAdd(memslot_name, range); !s.ok()) {
    return s;
  }
  std::optional<FileSource> source;
  if (config.source.has_value()) {
    absl::StatusOr<FileSource> file =
        FileSource::Open({.image_dir = environment_.image_dir,
                          .path = config.source->path,
                          .offset_bytes = config.source->offset_bytes});
    if (!file.ok()) return file.status();
    source = *std::move(file);
  }
  if (validate_only) return DescribeRecord(id, record);

  absl::StatusOr<Pfn> pfn = pfns_.Allocate(range.start, range.size());
  if (!pfn.ok()) return pfn.status();
  absl::StatusOr<std::shared_ptr<Memslot>> memslot = Memslot::Create(
      {.name = memslot_name,
       .range = range,
       .base_pfn = *pfn,
       .read_only = config.read_only,
       .host_page_level = HostPageLevelOf(config),
       .source = std::move(source),
       .notes_writes = NotesWrites(config),
       .userfaultfd = {.origin = kvm_vm_ != nullptr
                                     ? FaultOrigin::kKernelAndUser
                                     : FaultOrigin::kUserOnly}});
  if (!memslot.ok()) {
    FreePfns(*pfn);
    return memslot.status();
  }
  record.memslot = *std::move(memslot);
  record.memslot->set_faults_wait(config.fault_policy == FaultPolicy::kWait);
  record.memslot->set_fault_around(config.map_around_frame_count);
  if (config.dirty_log_enabled) {
    if (absl::Status s = EnableDirtyLog(record, config.dirty_log_initially_set,
                                        /*known=*/false);
        !s.ok()) {
      FreePfns(*pfn);
      return s;
    }
  }
  const MemslotInfo info = DescribeRecord(id, record);
  if (absl::Status s = InsertMemslot(std::string(id), std::move(record));
      !s.ok()) {
    FreePfns(*pfn);
    return s;
  }
  events_.Append(MemslotChangedEvent{.memslot_id = std::string(id)});
  return info;
}

// Makes the memslot known to the pagers, the tables and KVM, or to none.
absl::Status VmImpl::InsertMemslot(const std::string& id,
                                   MemslotRecord record) {
  const std::shared_ptr<Memslot> memslot = record.memslot;
  if (absl::Status s = pager_->Add(memslot); !s.ok()) return s;
  MakeRoom(*memslot, memslot->range());
  if (absl::Status s = memslots_.Add(memslot); !s.ok()) {
    pager_->Remove(*memslot);
    return s;
  }
  if (absl::Status s = SetKvmMemslot(record, memslot->range().start); !s.ok()) {
    // A client may have mapped or protected frames of it meanwhile.
    memslot->CloseForMap();
    mmu_->ZapRange(memslot->range(), NeverStop);
    memslots_.Remove(memslot);
    mmu_->ClearLimits(memslot->range());
    pager_->Remove(*memslot);
    return s;
  }
  MutexLock lock(state_mutex_);
  records_.emplace(id, std::move(record));
  return absl::OkStatus();
}

// Tables of 4K entries may be left from another memslot in `range`.
void VmImpl::MakeRoom(const Memslot& memslot, GfnRange range) {
  if (memslot.host_page_level() == PageLevel::k4K) return;
  mmu_->UnlinkLeafTables(range);
}

absl::StatusOr<MemslotInfo> VmImpl::GetMemslot(absl::string_view id) const {
  MutexLock lock(state_mutex_);
  const auto it = records_.find(std::string(id));
  if (it == records_.end()) {
    return NotFoundError(absl::StrCat(name(), "/memslots/", id));
  }
  return DescribeRecord(id, it->second);
}

std::vector<MemslotInfo> VmImpl::ListMemslots() const {
  std::vector<MemslotInfo> all;
  {
    MutexLock lock(state_mutex_);
    for (const auto& [id, record] : records_) {
      all.push_back(DescribeRecord(id, record));
    }
  }
  std::sort(all.begin(), all.end(),
            [](const MemslotInfo& a, const MemslotInfo& b) {
              return a.config.base_gfn < b.config.base_gfn;
            });
  return all;
}

void VmImpl::FreePfns(Pfn start) {
  pfns_.Release(start);
  pfns_.Recycle(start);
}

absl::Status VmImpl::QuiesceMemslot(Memslot& memslot) {
  memslot.CloseForMap();
  const MmuProgress zapped = mmu_->ZapRange(memslot.range(), NeverStop);
  if (!zapped.status.ok()) memslot.ReopenForMap();
  return zapped.status;
}

absl::StatusOr<MemslotInfo> VmImpl::UpdateMemslot(absl::string_view id,
                                                  const MemslotUpdate& update,
                                                  absl::string_view etag) {
  if (absl::Status s = CheckUsable("change a memslot"); !s.ok()) return s;
  MutexLock lifecycle(lifecycle_mutex_);
  MemslotRecord record;
  {
    MutexLock lock(state_mutex_);
    const auto it = records_.find(std::string(id));
    if (it == records_.end()) {
      return NotFoundError(absl::StrCat(name(), "/memslots/", id));
    }
    if (absl::Status s = CheckEtag(etag, it->second.version); !s.ok()) {
      return s;
    }
    record = it->second;
  }
  const MemslotConfig before = record.config;
  MemslotConfig after = before;
  after.base_gfn = update.base_gfn.value_or(before.base_gfn);
  after.read_only = update.read_only.value_or(before.read_only);
  after.dirty_log_enabled =
      update.dirty_log_enabled.value_or(before.dirty_log_enabled);
  after.dirty_log_initially_set =
      update.dirty_log_initially_set.value_or(before.dirty_log_initially_set);
  after.fault_policy = update.fault_policy.value_or(before.fault_policy);
  after.map_around_frame_count =
      update.map_around_frame_count.value_or(before.map_around_frame_count);
  if (absl::Status s = CheckMemslotConfig(after); !s.ok()) return s;

  const bool moves = after.base_gfn != before.base_gfn;
  if (moves) {
    if (absl::Status s = memslots_.CheckMove(*record.memslot, after.base_gfn);
        !s.ok()) {
      return s;
    }
  }
  const bool logs = after.dirty_log_enabled && !before.dirty_log_enabled;
  if (logs) {
    if (absl::Status s = EnableDirtyLog(record, after.dirty_log_initially_set,
                                        /*known=*/true);
        !s.ok()) {
      return s;
    }
  }
  auto stop_logging = absl::MakeCleanup([&] {
    lifecycle_mutex_.AssertHeld();
    if (logs) DisableDirtyLog(record);
  });
  if (moves || after.read_only != before.read_only) {
    // vCPUs look again afterwards; outside, none of them runs into the change.
    vcpus_->Park();
    const auto unpark = absl::MakeCleanup([this] { vcpus_->Unpark(); });
    if (absl::Status s = QuiesceMemslot(*record.memslot); !s.ok()) return s;
    const auto reopen =
        absl::MakeCleanup([&] { record.memslot->ReopenForMap(); });
    if (moves) {
      if (absl::Status s = MoveMemslot(record, after.base_gfn); !s.ok()) {
        return s;
      }
    }
    record.memslot->set_read_only(after.read_only);
  }
  std::move(stop_logging).Cancel();
  if (before.dirty_log_enabled && !after.dirty_log_enabled) {
    DisableDirtyLog(record);
  }
  record.memslot->set_faults_wait(after.fault_policy == FaultPolicy::kWait);
  record.memslot->set_fault_around(after.map_around_frame_count);
  record.config = after;
  ++record.version;
  {
    MutexLock lock(state_mutex_);
    records_[std::string(id)] = record;
  }
  const GfnRange now = record.memslot->range();
  const GfnRange was = {before.base_gfn, before.base_gfn + now.size()};
  vcpus_->Release([&](const WaitingAccess& access) {
    return was.Contains(access.gfn) || now.Contains(access.gfn);
  });
  events_.Append(MemslotChangedEvent{.memslot_id = std::string(id)});
  return DescribeRecord(id, record);
}

// REQUIRES: vCPUs parked, the memslot quiesced.
absl::Status VmImpl::MoveMemslot(MemslotRecord& record, Gfn base) {
  Memslot& memslot = *record.memslot;
  const Gfn old_base = memslot.range().start;
  const Pfn old_pfn = memslot.base_pfn();
  const absl::StatusOr<Pfn> pfn = pfns_.Allocate(base, memslot.range().size());
  if (!pfn.ok()) return pfn.status();
  if (absl::Status s = SetKvmMemslot(record, base); !s.ok()) {
    FreePfns(*pfn);
    return s;
  }
  MakeRoom(memslot, {base, base + memslot.range().size()});
  if (absl::Status s = memslots_.Move(record.memslot, base, *pfn); !s.ok()) {
    FreePfns(*pfn);
    const absl::Status back = SetKvmMemslot(record, old_base);
    return back.ok() ? s : back;
  }
  mmu_->MoveLimits({old_base, old_base + memslot.range().size()}, base);
  FreePfns(old_pfn);
  return absl::OkStatus();
}

absl::Status VmImpl::DeleteMemslot(absl::string_view id,
                                   absl::string_view etag) {
  if (absl::Status s = CheckUsable("lose a memslot"); !s.ok()) return s;
  MutexLock lifecycle(lifecycle_mutex_);
  {
    MutexLock lock(state_mutex_);
    const auto it = records_.find(std::string(id));
    if (it == records_.end()) {
      return NotFoundError(absl::StrCat(name(), "/memslots/", id));
    }
    if (absl::Status s = CheckEtag(etag, it->second.version); !s.ok()) {
      return s;
    }
  }
  if (absl::Status s = RemoveMemslot(std::string(id), /*force=*/false); !s.ok())
    return s;
  events_.Append(
      MemslotChangedEvent{.memslot_id = std::string(id), .deleted = true});
  return absl::OkStatus();
}

absl::Status VmImpl::RemoveMemslot(const std::string& id, bool force) {
  MemslotRecord record;
  {
    MutexLock lock(state_mutex_);
    record = records_.at(id);
  }
  const std::shared_ptr<Memslot> memslot = record.memslot;
  // No vCPU sleeps in the window, or holds a page of it refused, once all are
  // outside; KVM's call would wait for one that does.
  vcpus_->Park();
  const auto unpark = absl::MakeCleanup([this] { vcpus_->Unpark(); });
  if (absl::Status s = QuiesceMemslot(*memslot); !s.ok()) return s;
  if (kvm_vm_ != nullptr) {
    if (absl::Status s = kvm_vm_->DeleteMemslot(record.kvm_slot_id);
        !s.ok() && !force) {
      memslot->ReopenForMap();
      return s;
    }
  }
  pager_->Remove(*memslot);
  const Pfn pfn = memslot->base_pfn();
  memslots_.Remove(memslot);
  memslot->GiveBackPages();
  mmu_->ClearLimits(memslot->range());
  FreePfns(pfn);
  {
    MutexLock lock(state_mutex_);
    records_.erase(id);
  }
  vcpus_->Release([&](const WaitingAccess& access) {
    return memslot->range().Contains(access.gfn);
  });
  return absl::OkStatus();
}

}  // namespace tdp
