// Vm: the facade that a server uses. One object is one virtual machine: its
// vCPUs, memslots, page tables, event log and statistics.
//
// Every method validates its arguments against the VM (frames, states, limits)
// and answers with an error of engine/base/errors.h; on an error nothing has
// changed unless the method says otherwise.
//
// Thread safety: all methods, from any thread. Methods marked BLOCKING may wait
// for vCPU threads, file I/O or the kernel: run them on an executor, never on
// a thread that serves other calls. The others run in microseconds, or return
// early within their budget.

#ifndef ENGINE_VM_VM_H_
#define ENGINE_VM_VM_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/vm/vm_types.h"

namespace tdp {

// How long a ranged call may work before it returns early with `next_gfn`.
struct WorkBudget {
  absl::Duration time = absl::Milliseconds(50);
  // Asked between steps; true ends the call early, like a spent budget.
  std::function<bool()> cancelled;
};

class Vm {
 public:
  virtual ~Vm() = default;

  virtual VmInfo Describe() const = 0;
  // Replaces the labels. A non-empty `etag` must match.
  virtual absl::StatusOr<VmInfo> SetLabels(
      std::map<std::string, std::string> labels, absl::string_view etag) = 0;

  // State transitions. Asking for the state that the VM is in succeeds.
  virtual absl::StatusOr<VmInfo> Start() = 0;   // BLOCKING
  virtual absl::StatusOr<VmInfo> Pause() = 0;   // BLOCKING
  virtual absl::StatusOr<VmInfo> Resume() = 0;  // BLOCKING
  virtual absl::StatusOr<VmInfo> Stop() = 0;    // BLOCKING

  // vCPUs. `index` -1 means every vCPU.
  virtual absl::Status LoadGuest(int index,  // BLOCKING
                                 const GuestConfig& guest) = 0;
  // NOT_FOUND for an index that the VM does not have.
  virtual absl::StatusOr<VcpuInfo> GetVcpu(int index) const = 0;
  virtual std::vector<VcpuInfo> ListVcpus() const = 0;
  // Calls `done` once, from any thread, when the vCPU has EXITED, `deadline` is
  // reached or EndWait() is called with what this returns, with the vCPU as it
  // then is: maybe before this returns. Does not block.
  virtual absl::StatusOr<int64_t> WaitVcpu(
      int index, absl::Time deadline, std::function<void(VcpuInfo)> done) = 0;
  // Nothing if the wait is over.
  virtual void EndWait(int64_t wait_id) = 0;

  // Memslots.
  virtual absl::StatusOr<MemslotInfo> CreateMemslot(  // BLOCKING
      absl::string_view id, const MemslotConfig& config,
      bool validate_only) = 0;
  virtual absl::StatusOr<MemslotInfo> GetMemslot(
      absl::string_view id) const = 0;
  // By ascending base frame.
  virtual std::vector<MemslotInfo> ListMemslots() const = 0;
  virtual absl::StatusOr<MemslotInfo> UpdateMemslot(  // BLOCKING
      absl::string_view id, const MemslotUpdate& update,
      absl::string_view etag) = 0;
  virtual absl::Status DeleteMemslot(absl::string_view id,  // BLOCKING
                                     absl::string_view etag) = 0;

  // Page tables. `max_level` 0 lets the engine choose. Ranges come unvalidated
  // from the wire: they may be empty, reversed or beyond the root.
  virtual absl::StatusOr<RangeProgress> MapRange(  // BLOCKING
      GfnRange range, int max_level, bool write, const WorkBudget& budget) = 0;
  virtual absl::StatusOr<RangeProgress> ZapRange(  // BLOCKING
      GfnRange range, const WorkBudget& budget) = 0;
  // Returns the number of roots invalidated.
  virtual absl::StatusOr<int> ZapAll(bool wait) = 0;  // BLOCKING
  // Root entry first; the last is a leaf or not present.
  virtual absl::StatusOr<std::vector<SpteView>> WalkGfn(Gfn gfn) const = 0;
  // Appends up to `max_entries` entries in pre-order to `out` and returns where
  // to go on; == range.end when done. A huge entry is reported once, where its
  // walk begins.
  virtual absl::StatusOr<Gfn> WalkRange(GfnRange range,
                                        const WalkRangeOptions& options,
                                        size_t max_entries,
                                        std::vector<SpteView>& out) const = 0;
  virtual absl::StatusOr<WalkFramesResult> WalkFrames(
      absl::Span<const uint64_t> gfns) const = 0;
  // The same entries decoded, in place of what `out` holds. Takes no list at
  // all, too.
  virtual absl::Status ViewFrames(absl::Span<const uint64_t> gfns,
                                  std::vector<SpteView>& out) const = 0;
  virtual absl::StatusOr<AuditResult> AuditRange(  // BLOCKING
      GfnRange range, int max_divergences, const WorkBudget& budget) = 0;

  // Sets the most that is granted on a range, lasting. GFN_NOT_BACKED, checked
  // first, changes nothing. Write without read is refused.
  virtual absl::StatusOr<RangeProgress> ProtectRange(  // BLOCKING
      GfnRange range, Access access, const WorkBudget& budget) = 0;
  // The next write of each frame faults, and is granted. Leaves below
  // `min_level` are left alone; 0 means none is.
  virtual absl::StatusOr<RangeProgress> WriteProtectRange(  // BLOCKING
      GfnRange range, int min_level, const WorkBudget& budget) = 0;
  // Replaces huge leaves above `target_level`, 1 or 2.
  virtual absl::StatusOr<RangeProgress> SplitHugePages(  // BLOCKING
      GfnRange range, int target_level, const WorkBudget& budget) = 0;
  // Replaces full tables by leaves up to `max_level`; 0 means 2M.
  virtual absl::StatusOr<RangeProgress> CollapseHugePages(  // BLOCKING
      GfnRange range, int max_level, const WorkBudget& budget) = 0;
  // Finds, and unless `test_only` clears, what the guest touched. A huge
  // mapping has one bit: it is aged whole, also where the range begins or ends
  // inside it, and then the frames outside of the range are not reported.
  virtual absl::StatusOr<AgeResult> AgeRange(  // BLOCKING
      GfnRange range, const AgeOptions& options, const WorkBudget& budget) = 0;
  // Ages the whole VM, or joins a scan that is under way, and counts what is
  // mapped by idle age. Begins 100 ms after the last scan at the earliest, and
  // runs to its end however long that takes: of `budget` only `cancelled`
  // counts. AgeRange() finds what it would have found without the scan, and the
  // reverse. Ages are kept for an hour, or while somebody watches. A frame that
  // cannot be aged counts as used.
  virtual absl::StatusOr<WorkingSet> EstimateWorkingSet(  // BLOCKING
      const WorkBudget& budget) = 0;
  // Scans the same at an interval, 100 ms to 1 h, for as long as there are
  // watchers; they share the scans. `wake` is called as for
  // AddEventListener(), soon after each scan that is for this watcher. Read
  // first: there may be a scan that is new enough.
  virtual absl::StatusOr<int64_t> AddWorkingSetWatcher(
      absl::Duration interval, std::function<void()> wake) = 0;
  // The newest histogram that the watcher has not read, if there is one.
  virtual absl::StatusOr<WorkingSetUpdate> ReadWorkingSet(
      int64_t watcher_id) = 0;
  // After this, `wake` is not running and will not run.
  virtual void RemoveWorkingSetWatcher(int64_t watcher_id) = 0;
  // Runs all operations as one change of the tables: walks see all of it or
  // nothing. The guest may see part of it while it is made. On failure every
  // frame has its old access or less; at worst it is unmapped and faults back
  // in. Operations must not overlap.
  virtual absl::StatusOr<BatchResult> ApplyBatch(  // BLOCKING
      absl::Span<const BatchOperation> operations) = 0;

  // Guest memory. Reads or writes at most one chunk; the caller loops.
  // Checks that [gpa, gpa + size) is backed throughout.
  virtual absl::Status CheckBacked(Gpa gpa, uint64_t size) const = 0;
  virtual absl::StatusOr<std::string> ReadMemory(  // BLOCKING
      Gpa gpa, uint64_t size) = 0;
  // On error, metadata "writtenBytes" says how much of `data` is in memory.
  virtual absl::Status WriteMemory(Gpa gpa, absl::string_view data) = 0;
  // BLOCKING ^
  // Unmaps the frames and gives their memory back to the host. They read as
  // zero from then on, whatever their source holds. GFN_NOT_BACKED, checked
  // first, changes nothing.
  virtual absl::StatusOr<DiscardResult> DiscardRange(  // BLOCKING
      GfnRange range, const WorkBudget& budget) = 0;

  // The dirty log of the memslots that have it enabled. Each consumer sees a
  // write until it has cleared it. The consumer "default" always exists, and
  // an empty `consumer` means it.
  virtual absl::Status CreateDirtyConsumer(  // BLOCKING
      absl::string_view id) = 0;
  // By name.
  virtual std::vector<std::string> ListDirtyConsumers() const = 0;
  virtual absl::Status DeleteDirtyConsumer(  // BLOCKING
      absl::string_view id) = 0;
  // The bits from range.start on, clear where the memslot has no frame. A chunk
  // begins at a multiple of 64 frames, ends at one of kDirtyChunkFrames or
  // behind the range, and covers at least one frame of it. The range is cut to
  // the memslot; FIELD_INVALID if nothing is left of it, DIRTY_LOG_OFF if
  // the memslot has no dirty log.
  virtual absl::StatusOr<FrameBitmap> ReadDirtyLog(absl::string_view memslot_id,
                                                   absl::string_view consumer,
                                                   GfnRange range) = 0;
  // Clears the bits that are set in `bits`, then protects their frames again.
  // Returns how many were set; on error they are set again. A write after that
  // is reported again.
  virtual absl::StatusOr<int64_t> ClearDirtyLog(  // BLOCKING
      absl::string_view memslot_id, absl::string_view consumer,
      const FrameBitmap& bits) = 0;

  // Accesses that wait, oldest first.
  virtual std::vector<WaitingAccess> ListWaitingAccesses() const = 0;
  // NOT_FOUND if the access does not wait, or not any longer.
  virtual absl::Status ResolveAccess(int64_t access_id,  // BLOCKING
                                     Verdict verdict) = 0;

  virtual VmStats Stats() const = 0;

  // Events from `start_sequence` on (0: from the next one on), at most
  // `max_events`; possibly none. EVENTS_TRUNCATED if they are no longer kept.
  virtual absl::StatusOr<EventBatch> ReadEvents(int64_t start_sequence,
                                                size_t max_events) const = 0;
  // Calls `wake` from any thread, soon after each new event and when the VM is
  // deleted, until the returned id is removed. `wake` must not block or call
  // the VM. After RemoveEventListener() returns, `wake` is not running and
  // will not run.
  virtual int64_t AddEventListener(std::function<void()> wake) = 0;
  virtual void RemoveEventListener(int64_t id) = 0;
};

}  // namespace tdp

#endif  // ENGINE_VM_VM_H_
