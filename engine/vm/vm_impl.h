// VmImpl: a virtual machine, put together from its parts: page tables over
// memslots, pagers that answer faults, vCPU threads, and the event log.
//
// Life: Create(), any calls, TearDown(), destruction. After TearDown() only the
// shell is left, for calls that were in flight.
//
// Locks, in order: lifecycle_mutex_ (held over whole changes, which may block),
// then state_mutex_ (held for moments). vCPU threads and pagers take only
// state_mutex_.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_VM_VM_IMPL_H_
#define ENGINE_VM_VM_IMPL_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/kvm/kvm.h"
#include "engine/kvm/private_memory.h"
#include "engine/memory/memslot_table.h"
#include "engine/memory/pfn_allocator.h"
#include "engine/mmu/tdp_mmu.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu.h"
#include "engine/vm/event_log.h"
#include "engine/vm/fault_stats.h"
#include "engine/vm/pager.h"
#include "engine/vm/task_thread.h"
#include "engine/vm/vcpu_set.h"
#include "engine/vm/vm.h"
#include "engine/vm/working_set_scanner.h"

namespace tdp {

// What a VM needs from its daemon.
struct VmEnvironment {
  RcuDomain* rcu = nullptr;
  PageTableBudget* page_table_budget = nullptr;  // null: there is none
  const Kvm* kvm = nullptr;  // null: software hypervisor only
  std::string image_dir;
  int64_t max_memslots = 0;
};

// The bytes of page tables that a VM may have if its creator says nothing: a
// part of `budget`, which all VMs share, if there is one.
int64_t DefaultPageTableLimit(const PageTableBudget* budget);

class VmImpl final : public Vm, private VcpuHost {
 public:
  // `config` has been checked and completed by CheckConfig().
  static absl::StatusOr<std::shared_ptr<VmImpl>> Create(
      const VmEnvironment& environment, absl::string_view id,
      const VmConfig& config);
  // Fills in defaults, or says what is wrong.
  static absl::StatusOr<VmConfig> CheckConfig(const VmEnvironment& environment,
                                              VmConfig config);
  ~VmImpl() override;

  // Removes everything the VM holds on the host. VM_STATE_CONFLICT, and
  // nothing changed, unless the VM is CREATED, STOPPED or FAILED;
  // `force` stops it first. A non-empty `etag` must match. BLOCKING.
  absl::Status TearDown(absl::string_view etag, bool force);

  VmInfo Describe() const override;
  absl::StatusOr<VmInfo> SetLabels(std::map<std::string, std::string> labels,
                                   absl::string_view etag) override;

  absl::StatusOr<VmInfo> Start() override;
  absl::StatusOr<VmInfo> Pause() override;
  absl::StatusOr<VmInfo> Resume() override;
  absl::StatusOr<VmInfo> Stop() override;

  absl::Status LoadGuest(int index, const GuestConfig& guest) override;
  absl::StatusOr<VcpuInfo> GetVcpu(int index) const override;
  std::vector<VcpuInfo> ListVcpus() const override;
  absl::StatusOr<int64_t> WaitVcpu(int index, absl::Time deadline,
                                   std::function<void(VcpuInfo)> done) override;
  void EndWait(int64_t wait_id) override;

  absl::StatusOr<MemslotInfo> CreateMemslot(absl::string_view id,
                                            const MemslotConfig& config,
                                            bool validate_only) override;
  absl::StatusOr<MemslotInfo> GetMemslot(absl::string_view id) const override;
  std::vector<MemslotInfo> ListMemslots() const override;
  absl::StatusOr<MemslotInfo> UpdateMemslot(absl::string_view id,
                                            const MemslotUpdate& update,
                                            absl::string_view etag) override;
  absl::Status DeleteMemslot(absl::string_view id,
                             absl::string_view etag) override;

  absl::StatusOr<RangeProgress> MapRange(GfnRange range, int max_level,
                                         bool write,
                                         const WorkBudget& budget) override;
  absl::StatusOr<RangeProgress> ZapRange(GfnRange range,
                                         const WorkBudget& budget) override;
  absl::StatusOr<int> ZapAll(bool wait) override;
  absl::StatusOr<std::vector<SpteView>> WalkGfn(Gfn gfn) const override;
  absl::StatusOr<Gfn> WalkRange(GfnRange range, const WalkRangeOptions& options,
                                size_t max_entries,
                                std::vector<SpteView>& out) const override;
  absl::StatusOr<WalkFramesResult> WalkFrames(
      absl::Span<const uint64_t> gfns) const override;
  absl::Status ViewFrames(absl::Span<const uint64_t> gfns,
                          std::vector<SpteView>& out) const override;
  absl::StatusOr<AuditResult> AuditRange(GfnRange range, int max_divergences,
                                         const WorkBudget& budget) override;

  absl::StatusOr<RangeProgress> ProtectRange(GfnRange range, Access access,
                                             const WorkBudget& budget) override;
  absl::StatusOr<RangeProgress> WriteProtectRange(
      GfnRange range, int min_level, const WorkBudget& budget) override;
  absl::StatusOr<RangeProgress> SplitHugePages(
      GfnRange range, int target_level, const WorkBudget& budget) override;
  absl::StatusOr<RangeProgress> CollapseHugePages(
      GfnRange range, int max_level, const WorkBudget& budget) override;
  absl::StatusOr<AgeResult> AgeRange(GfnRange range, const AgeOptions& options,
                                     const WorkBudget& budget) override;
  absl::StatusOr<WorkingSet> EstimateWorkingSet(
      const WorkBudget& budget) override;
  absl::StatusOr<int64_t> AddWorkingSetWatcher(
      absl::Duration interval, std::function<void()> wake) override;
  absl::StatusOr<WorkingSetUpdate> ReadWorkingSet(int64_t watcher_id) override {
    return working_set_.Read(watcher_id);
  }
  void RemoveWorkingSetWatcher(int64_t watcher_id) override {
    working_set_.RemoveWatcher(watcher_id);
  }
  absl::StatusOr<BatchResult> ApplyBatch(
      absl::Span<const BatchOperation> operations) override;

  absl::Status CheckBacked(Gpa gpa, uint64_t size) const override;
  absl::StatusOr<std::string> ReadMemory(Gpa gpa, uint64_t size) override;
  absl::Status WriteMemory(Gpa gpa, absl::string_view data) override;

  absl::StatusOr<DiscardResult> DiscardRange(GfnRange range,
                                             const WorkBudget& budget) override;

  absl::Status CreateDirtyConsumer(absl::string_view id) override;
  std::vector<std::string> ListDirtyConsumers() const override;
  absl::Status DeleteDirtyConsumer(absl::string_view id) override;
  absl::StatusOr<FrameBitmap> ReadDirtyLog(absl::string_view memslot_id,
                                           absl::string_view consumer,
                                           GfnRange range) override;
  absl::StatusOr<int64_t> ClearDirtyLog(absl::string_view memslot_id,
                                        absl::string_view consumer,
                                        const FrameBitmap& bits) override;

  std::vector<WaitingAccess> ListWaitingAccesses() const override {
    return vcpus_->ListWaiting();
  }
  absl::Status ResolveAccess(int64_t access_id, Verdict verdict) override;

  VmStats Stats() const override;

  absl::StatusOr<EventBatch> ReadEvents(int64_t start_sequence,
                                        size_t max_events) const override {
    return events_.Read(start_sequence, max_events);
  }
  int64_t AddEventListener(std::function<void()> wake) override {
    return events_.AddListener(std::move(wake));
  }
  void RemoveEventListener(int64_t id) override { events_.RemoveListener(id); }

 private:
  static constexpr char kDefaultDirtyConsumer[] = "default";

  struct MemslotRecord {
    MemslotConfig config;
    int64_t version = 1;
    uint32_t kvm_slot_id = 0;
    std::shared_ptr<Memslot> memslot;
  };
  struct VcpuWaiter {
    int index = 0;
    std::function<void(VcpuInfo)> done;
    TaskThread::TaskId at_deadline = {};
  };

  VmImpl(const VmEnvironment& environment, absl::string_view id,
         const VmConfig& config);
  absl::Status Init();

  // vm_lifecycle.cc
  VmInfo DescribeLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  void SetStateLocked(VmState state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  absl::Status StateConflict(absl::string_view wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  VmState state() const ABSL_LOCKS_EXCLUDED(state_mutex_);
  // NOT_FOUND after TearDown(), VM_STATE_CONFLICT on a FAILED VM.
  absl::Status CheckUsable(absl::string_view wanted) const;
  absl::Status CheckExists() const;
  absl::Status CheckEtag(absl::string_view etag, int64_t version) const;
  std::string name() const;

  // vm_guests.cc
  absl::StatusOr<LoadedGuest> PrepareGuest(const GuestConfig& guest);
  absl::StatusOr<LoadedGuest> LoadElf(const ElfGuestConfig& guest);
  absl::Status CheckVcpuIndex(int index) const;
  void FinishWaiters(int index);

  // vm_memslots.cc
  absl::Status CheckMemslotConfig(MemslotConfig& config) const;
  // The window itself notes writes, and holds none back.
  bool NotesWrites(const MemslotConfig& config) const;
  absl::Status CheckFrames(Gfn base, int64_t frame_count) const;
  MemslotInfo DescribeRecord(absl::string_view id,
                             const MemslotRecord& record) const;
  absl::Status InsertMemslot(const std::string& id, MemslotRecord record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lifecycle_mutex_);
  // Before the memslot comes to `range`, where no other one is.
  void MakeRoom(const Memslot& memslot, GfnRange range)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lifecycle_mutex_);
  // Gives back a range of backing frames that no table names: it was never
  // used, or its entries were zapped in every root.
  void FreePfns(Pfn start);
  // Closes the memslot for map and removes its entries.
  absl::Status QuiesceMemslot(Memslot& memslot);
  absl::Status SetKvmMemslot(const MemslotRecord& record, Gfn base);
  // `force`: goes on although KVM does not let go of the memslot, because its
  // VM is about to go.
  absl::Status RemoveMemslot(const std::string& id, bool force)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lifecycle_mutex_);
  absl::Status MoveMemslot(MemslotRecord& record, Gfn base)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lifecycle_mutex_);
  uint32_t FreeKvmSlotId() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);

  // vm_mmu.cc
  absl::Status CheckRange(GfnRange range) const;
  absl::Status CheckGfn(absl::string_view field, uint64_t gfn) const;
  absl::Status CheckGfns(absl::Span<const uint64_t> gfns) const;
  // `level` is a number of the API's PageLevel, 0 if unspecified.
  static absl::Status CheckLevel(absl::string_view field, int level, int min,
                                 int max, absl::string_view rule);

  // vm_mmu_changes.cc
  // That writes to frames of `range` can be held back.
  absl::Status CheckWriteProtects(GfnRange range) const;
  // Checks the operations of a batch and appends them to `batch`.
  absl::Status CheckBatch(absl::Span<const BatchOperation> operations,
                          std::vector<MmuOperation>& batch) const;
  static absl::Status CheckDisjoint(const std::vector<MmuOperation>& batch);

  // vm_memory.cc
  // Of one memslot. Adds to `result`, also on failure.
  absl::Status DiscardPiece(GfnRange piece, DiscardResult& result);

  // vm_dirty_log.cc
  // `known`: the memslot is known to KVM.
  absl::Status EnableDirtyLog(const MemslotRecord& record, bool initially_set,
                              bool known)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lifecycle_mutex_);
  void DisableDirtyLog(const MemslotRecord& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lifecycle_mutex_);
  // Tells KVM, or the window, whether to note writes.
  absl::Status FollowDirtyLog(const MemslotRecord& record);
  absl::Status Harvest(Memslot& memslot, uint32_t kvm_slot_id) const;
  struct DirtyView {
    std::shared_ptr<Memslot> memslot;
    uint32_t kvm_slot_id = 0;
    BackingPin pin;
    DirtyConsumer consumer;
  };
  // With a pin, so that the memslot stays where it is.
  absl::StatusOr<DirtyView> FindDirtyLog(absl::string_view memslot_id,
                                         absl::string_view consumer) const;
  absl::Status CheckDirtyBits(const FrameBitmap& bits) const;
  // Why the log did not do what it was asked.
  absl::Status DirtyLogError(const DirtyView& view, DirtyLog::Answer answer,
                             absl::string_view memslot_id,
                             absl::string_view consumer) const;
  std::string DirtyConsumerName(absl::string_view id) const;
  std::vector<MemslotRecord> LoggedMemslots() const;

  // vm_working_set.cc
  // For AgeRange(): as TdpMmu::AgeRange(), and leaves and takes word. Reports
  // frames of the range alone, each of them once.
  MmuProgress AgeFrames(GfnRange range, bool test_only, StopCheck stop,
                        absl::FunctionRef<void(GfnRange)> on_young);
  // The first piece of the range, up to the end of a memslot.
  MmuProgress AgePiece(GfnRange range, bool test_only, StopCheck stop,
                       absl::FunctionRef<void(GfnRange)> on_young);
  absl::StatusOr<WorkingSet> ScanWorkingSet(absl::Duration start,
                                            StopCheck stop);
  // From frame `index` of the memslot on. Returns where to go on.
  uint64_t ScanPiece(Memslot& memslot, uint64_t index, absl::Duration start,
                     StopCheck stop, IdleHistogram& histogram);
  void DropIdleAges();
  void ReleaseWorkingSetLater();

  // vm_faults.cc
  struct GuestFault {
    std::shared_ptr<Memslot> memslot;
    FaultEvent event;
    uint64_t sweeps = 0;  // before the event was read
    // Before a zap after its vCPU has come out, by a stop for instance: that is
    // not undone by the fault.
    ChangeSequence::Snapshot sequence;
    absl::Time begin;
    bool loaded = false;  // its content, if that could be had
  };
  // For pager threads.
  void ServeFaults(const std::shared_ptr<Memslot>& memslot);
  void ServeFault(GuestFault fault);
  void LoadAndServe(GuestFault fault);
  absl::Status GrantAccess(const WaitingAccess& access);
  absl::Status MapGranted(const Memslot& memslot, const WaitingAccess& access);
  // After a change that may grant accesses to frames of `range`.
  void ReleaseGranted(GfnRange range);
  AccessAnswer MakeAccess(const GuestExit& exit) override;
  AccessAnswer AnswerUnbacked(const GuestExit& exit);
  bool IsGranted(const WaitingAccess& access);
  bool NeedNotWait(const WaitingAccess& access,
                   const WaitReason& reason) override;
  // Lets the accesses look again that failed for want of something of the
  // host's, page tables for instance.
  void ReleaseFailed();
  void OnWaiting(const WaitingAccess& access) override;
  void OnExited(int index, const std::string& reason, bool failed,
                bool last) override;
  WaitReason ReasonToWait(const FaultOutcome& outcome, const Memslot& memslot,
                          Gfn gfn, bool write) const;

  // Constant after construction.
  const VmEnvironment environment_;
  const std::string id_;
  const VmConfig config_;  // labels are in labels_
  const absl::Time create_time_;
  const Gfn max_gfn_;

  // Provide their own synchronization.
  EventLog events_;
  FaultStats fault_stats_;
  PfnAllocator pfns_;
  MemslotTable memslots_;
  std::unique_ptr<TdpMmu> mmu_;
  std::unique_ptr<KvmVm> kvm_vm_;
  std::unique_ptr<PrivateMemory> private_memory_;
  std::unique_ptr<Pager> pager_;
  std::unique_ptr<VcpuSet> vcpus_;
  TaskThread reaper_;
  TaskThread timers_;
  // A task that zaps the invalidated roots is queued and has not begun.
  std::atomic<bool> reap_queued_{false};
  // Unbacked accesses told of in the current second: the rest only counts.
  std::atomic<int64_t> unbacked_second_{0};
  std::atomic<int64_t> unbacked_reported_{0};

  // A scan has begun some time: memslots may have word of frames.
  std::atomic<bool> was_scanned_{false};
  // Calls that may age without leaving or taking word. Who adds itself looks at
  // was_scanned_ then; who sets that waits then until they are gone.
  std::atomic<int> wordless_agers_{0};
  // A task is queued that looks whether they are still wanted.
  std::atomic<bool> release_queued_{false};
  WorkingSetScanner working_set_;

  // Held over a change of the VM's state or memslots.
  Mutex lifecycle_mutex_;

  mutable Mutex state_mutex_ ABSL_ACQUIRED_AFTER(lifecycle_mutex_);
  VmState state_ ABSL_GUARDED_BY(state_mutex_) = VmState::kCreated;
  bool torn_down_ ABSL_GUARDED_BY(state_mutex_) = false;
  int64_t version_ ABSL_GUARDED_BY(state_mutex_) = 1;
  std::map<std::string, std::string> labels_ ABSL_GUARDED_BY(state_mutex_);
  std::map<std::string, MemslotRecord> records_ ABSL_GUARDED_BY(state_mutex_);
  std::map<int64_t, VcpuWaiter> waiters_ ABSL_GUARDED_BY(state_mutex_);
  // The consumers of the dirty logs, by name.
  std::map<std::string, DirtyConsumer> dirty_consumers_
      ABSL_GUARDED_BY(state_mutex_) = {{kDefaultDirtyConsumer, {}}};
  uint64_t next_dirty_consumer_id_ ABSL_GUARDED_BY(state_mutex_) = 1;
  int64_t next_waiter_id_ ABSL_GUARDED_BY(state_mutex_) = 1;
};

// Ends a ranged call when its budget is spent or its caller gave up.
class BudgetCheck {
 public:
  explicit BudgetCheck(const WorkBudget& budget);
  bool operator()() const;

 private:
  const absl::Time end_;
  const WorkBudget& budget_;
};

SpteView ViewOf(const WalkedEntry& entry);

}  // namespace tdp

#endif  // ENGINE_VM_VM_IMPL_H_
