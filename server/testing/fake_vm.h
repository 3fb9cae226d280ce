// FakeVm: a Vm without memory, threads or a kernel, for tests of the server.
//
// It keeps what the facade promises about names, states, ranges and events, in
// maps under one mutex. Mappings are 4 KiB leaves. A test may look behind the
// facade and make things happen through the methods that end in ForTest.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_TESTING_FAKE_VM_H_
#define SERVER_TESTING_FAKE_VM_H_

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/vm/vm.h"

namespace tdp::server {

class FakeVm final : public Vm {
 public:
  FakeVm(absl::string_view id, const VmConfig& config);
  ~FakeVm() override;
  // Finishes the waits that are under way and ends the VM's thread.
  void EndThread();

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
  absl::Status WaitVcpu(int index, absl::Time deadline,
                        std::function<void(VcpuInfo)> done) override;

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
  absl::StatusOr<BatchResult> ApplyBatch(
      absl::Span<const BatchOperation> operations) override;
  // All that is mapped is in the first of two buckets. A watcher gets this at
  // once, and then what a test gives it.
  absl::StatusOr<WorkingSet> EstimateWorkingSet(
      const WorkBudget& budget) override;
  absl::StatusOr<int64_t> AddWorkingSetWatcher(
      absl::Duration interval, std::function<void()> wake) override;
  absl::StatusOr<WorkingSetUpdate> ReadWorkingSet(int64_t watcher_id) override;
  void RemoveWorkingSetWatcher(int64_t watcher_id) override;

  absl::Status CheckBacked(Gpa gpa, uint64_t size) const override;
  absl::StatusOr<std::string> ReadMemory(Gpa gpa, uint64_t size) override;
  absl::Status WriteMemory(Gpa gpa, absl::string_view data) override;
  // Frees what is mapped; ends at once if the call is cancelled.
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
  std::vector<WaitingAccess> ListWaitingAccesses() const override;
  // Takes any verdict; after RETRY the access waits again.
  absl::Status ResolveAccess(int64_t access_id, Verdict verdict) override;

  VmStats Stats() const override;

  absl::StatusOr<EventBatch> ReadEvents(int64_t start_sequence,
                                        size_t max_events) const override;
  int64_t AddEventListener(std::function<void()> wake) override;
  void RemoveEventListener(int64_t id) override;

  // Runs at the start of each MapRange and DiscardRange, without a lock.
  void SetMapHookForTest(std::function<void(const WorkBudget&)> hook);
  // What one of the verbs from ProtectRange() to ApplyBatch() was given; fields
  // that it does not have are left as they are.
  struct VerbCall {
    std::string verb;  // "ProtectRange"
    GfnRange range;
    Access access;
    int level = 0;
    AgeOptions age;
    std::vector<BatchOperation> operations;
    WorkBudget budget;
  };
  // What such a verb answers with, as far as its result has it.
  struct VerbAnswer {
    Gfn next_gfn;
    int64_t changed = 0;
    FrameBitmap young;
    absl::Duration hold_duration;
  };
  using VerbHook = std::function<absl::StatusOr<VerbAnswer>(const VerbCall&)>;
  // Answers these verbs, without a lock. Until it is set they reach the end of
  // a good range and change nothing.
  void SetVerbHookForTest(VerbHook hook);
  using WalkHook = std::function<absl::StatusOr<Gfn>(
      GfnRange range, const WalkRangeOptions& options, size_t max_entries,
      std::vector<SpteView>& out)>;
  // Answers WalkRange(), without a lock.
  void SetWalkHookForTest(WalkHook hook);
  // The next WriteMemory takes `bytes` bytes and then fails.
  void FailWriteAfterForTest(uint64_t bytes);
  // The guest writes the frame: each consumer sees it.
  void MarkDirtyForTest(Gfn gfn);
  void AddWaitingAccessForTest(const WaitingAccess& access);
  // The verdicts that reached an access, in order.
  std::vector<std::pair<int64_t, Verdict>> verdicts_for_test() const;
  void AddEventForTest(decltype(Event::detail) detail);
  // Forgets every event before `sequence`.
  void DropEventsBeforeForTest(int64_t sequence);
  void ExitVcpuForTest(int index, absl::string_view reason);
  void SetConsoleForTest(int index, absl::string_view console);
  // The VM is deleted: nothing follows in its event log.
  void CloseForTest();
  int ListenerCountForTest() const;
  // What a scan for all watchers finds.
  void AnswerWatchersForTest(const absl::StatusOr<WorkingSet>& answer);
  using EstimateHook =
      std::function<absl::StatusOr<WorkingSet>(const WorkBudget&)>;
  // Answers EstimateWorkingSet(), without a lock.
  void SetEstimateHookForTest(EstimateHook hook);
  // Of those who watch the working set.
  std::vector<absl::Duration> WatcherIntervalsForTest() const;
  // The last guest given to LoadGuest().
  GuestConfig guest_for_test() const;

 private:
  struct Waiter {
    int index;
    absl::Time deadline;
    std::function<void(VcpuInfo)> done;
  };

  struct Watcher {
    absl::Duration interval;
    std::function<void()> wake;
    std::optional<absl::StatusOr<WorkingSet>> unread;
  };

  static constexpr uint64_t kRootFrames = FramesOfRoot(PageLevel::k512G);
  static absl::Status CheckRange(GfnRange range);
  static GfnRange RangeOf(const MemslotConfig& config);

  absl::StatusOr<VerbAnswer> RunVerb(const VerbCall& call)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<RangeProgress> RunRangeVerb(const VerbCall& call)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<VmInfo> Change(VmState to, std::vector<VmState> from)
      ABSL_LOCKS_EXCLUDED(mutex_);
  VmInfo DescribeLocked() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void AddEvent(decltype(Event::detail) detail) ABSL_LOCKS_EXCLUDED(mutex_);
  // The frames that `consumer` finds written, and those of the memslot.
  struct LogView {
    std::set<Gfn>* dirty;
    GfnRange frames;
  };
  absl::StatusOr<LogView> FindLog(absl::string_view memslot_id,
                                  absl::string_view consumer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const MemslotInfo* SlotOf(Gfn gfn) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  SpteView ViewOf(Gfn gfn) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  WorkingSet WorkingSetNow() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasRunnableWaiter() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void RunWaiters();

  const std::string id_;
  const absl::Time create_time_;
  mutable absl::Mutex mutex_;
  VmConfig config_ ABSL_GUARDED_BY(mutex_);
  VmState state_ ABSL_GUARDED_BY(mutex_) = VmState::kCreated;
  int64_t generation_ ABSL_GUARDED_BY(mutex_) = 1;
  bool guest_loaded_ ABSL_GUARDED_BY(mutex_) = false;
  GuestConfig guest_ ABSL_GUARDED_BY(mutex_);
  std::vector<VcpuInfo> vcpus_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, MemslotInfo, std::less<>> memslots_
      ABSL_GUARDED_BY(mutex_);
  std::map<Gfn, bool> mapped_ ABSL_GUARDED_BY(mutex_);  // to writable
  std::map<uint64_t, char> bytes_ ABSL_GUARDED_BY(mutex_);
  uint64_t fail_write_after_ ABSL_GUARDED_BY(mutex_) = ~uint64_t{0};
  std::function<void(const WorkBudget&)> map_hook_ ABSL_GUARDED_BY(mutex_);
  WalkHook walk_hook_ ABSL_GUARDED_BY(mutex_);
  VerbHook verb_hook_ ABSL_GUARDED_BY(mutex_);
  EstimateHook estimate_hook_ ABSL_GUARDED_BY(mutex_);
  // By consumer.
  std::map<std::string, std::set<Gfn>, std::less<>> dirty_
      ABSL_GUARDED_BY(mutex_) = {{"default", {}}};
  std::map<int64_t, WaitingAccess> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<int64_t, Verdict>> verdicts_ ABSL_GUARDED_BY(mutex_);
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  int64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Held while listeners run, so that removing one waits for it.
  mutable absl::Mutex listener_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::map<int64_t, std::function<void()>> listeners_
      ABSL_GUARDED_BY(listener_mutex_);
  std::map<int64_t, Watcher> watchers_ ABSL_GUARDED_BY(listener_mutex_);
  int64_t next_listener_ ABSL_GUARDED_BY(listener_mutex_) = 1;

  std::thread waiter_thread_;
};

}  // namespace tdp::server

#endif  // SERVER_TESTING_FAKE_VM_H_
