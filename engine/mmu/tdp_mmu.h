// TdpMmu: the page tables of a VM and every change to them.
//
// Tables are walked lock-free under RCU, changed in parallel under the read
// side of mmu_lock, and restructured under its write side. What the entries say
// is made true on the host by the thread that froze them, through the Backing
// of the frame (engine/doc/enforcement.md).
//
// Thread safety: all methods, from any thread, holding neither mmu_lock nor an
// RCU read section. Verbs that change entries may wait for another owner, for
// file content or for a grace period; walks do not wait.
//
// Invariants:
//   At any time at most one entry of a VM is present or FROZEN for a frame,
//   outside one ancestor chain, over all roots.
//   Only the valid root gains entries. Invalidated roots only lose them.
//   The host maps a frame at most as the entry says, outside of FROZEN.

#ifndef ENGINE_MMU_TDP_MMU_H_
#define ENGINE_MMU_TDP_MMU_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/mmu/change_sequence.h"
#include "engine/mmu/frozen_run.h"
#include "engine/mmu/mmu_counters.h"
#include "engine/mmu/root_set.h"
#include "engine/paging/page_table_pool.h"
#include "engine/paging/tdp_iterator.h"
#include "engine/sync/mmu_lock.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu.h"

namespace tdp {

// Asked between steps of a ranged verb; true ends it early.
using StopCheck = absl::FunctionRef<bool()>;

// How far a ranged verb came. On error the frames before `next_gfn` are done.
struct MmuProgress {
  Gfn next_gfn;
  int64_t changed_frames = 0;
  absl::Status status = absl::OkStatus();
};

struct MapOptions {
  PageLevel max_level = PageLevel::k2M;
  // Map writable memory writable at once, not on the first write.
  bool write = false;
};

// A guest access that the host could not serve.
struct PageFault {
  Gfn gfn;
  bool write = false;
  // Whether a frame that is not mapped may be: else the fault is kForbidden.
  bool may_install = true;
  // TdpMmu::ReadSequence(gfn), read before the caller found that the access
  // still waits. Without it the fault reads it itself.
  std::optional<ChangeSequence::Snapshot> sequence;
};

enum class FaultResult {
  kFixed,           // an entry was installed
  kSpurious,        // the entry allowed it; the host mapping was renewed
  kRetry,           // the frame changes or has changed: the vCPU looks again
  kWriteProtected,  // a write was granted to a mapped frame
  kUnbacked,        // no memslot holds the frame
  kChanging,        // the memslot is changing; wake the vCPU and look again
  kForbidden,       // the memslot, a limit or the caller forbids the access
  kFailed,          // see FaultOutcome::status
};

struct FaultOutcome {
  FaultResult result;
  absl::Status status;
};

// One entry met by a walk.
struct WalkedEntry {
  Spte spte;
  PageLevel level;
  Gfn gfn;
};

struct WalkOptions {
  PageLevel min_level = PageLevel::k4K;
  bool leaves_only = false;
  bool present_only = false;
  // Entries that begin before this frame were reported already.
  Gfn resume_gfn;
};

// A frame on which the tables and the host disagree.
struct AuditFinding {
  Gfn gfn;
  WalkedEntry entry;
  HostFrame host;
  bool host_grants_more = false;
};

struct AuditProgress {
  Gfn next_gfn;
  int64_t compared_frames = 0;
  absl::Status status = absl::OkStatus();
};

class TdpMmu {
 public:
  // `page_table_limit_bytes` bounds the tables; roots are exempt. `rcu` and
  // `backings` outlive the object.
  static absl::StatusOr<std::unique_ptr<TdpMmu>> Create(
      RcuDomain& rcu, BackingTable& backings, PageLevel root_level,
      int64_t page_table_limit_bytes);
  // REQUIRES: no other thread uses the object and no leaf is left.
  ~TdpMmu();
  TdpMmu(const TdpMmu&) = delete;
  TdpMmu& operator=(const TdpMmu&) = delete;

  // Frames that the root spans.
  GfnRange span() const { return {Gfn(0), Gfn(FramesOfRoot(root_level_))}; }
  PageLevel root_level() const { return root_level_; }

  // --- Verbs that change entries -------------------------------------------

  // Serves a guest fault. The vCPU is awake afterwards (or will be, by the
  // owner that kRetry met), except after kUnbacked, kChanging, kForbidden
  // and kFailed: then the access is not granted, and the caller decides.
  FaultOutcome HandleFault(const PageFault& fault);
  ChangeSequence::Snapshot ReadSequence(Gfn gfn) const {
    return sequence_.Read(gfn);
  }

  // Maps every frame of `range`, as a fault on each would. Every frame must be
  // backed: GFN_NOT_BACKED, checked first, changes nothing. OPERATION_CONFLICT
  // while a memslot of the range changes.
  MmuProgress MapRange(GfnRange range, const MapOptions& options,
                       StopCheck stop);

  // Removes the leaves that overlap `range` from all roots. Tables stay.
  MmuProgress ZapRange(GfnRange range, StopCheck stop);

  // Makes the valid root invalid and puts an empty one in its place. The
  // entries of the old one stay in force until ZapInvalidatedRoots() has
  // removed them. Takes mmu_lock for writing, for a moment. Returns the number
  // of roots invalidated.
  absl::StatusOr<int> InvalidateRoots();
  // Zaps every invalidated root and retires its tables. Callers may run at the
  // same time; each returns once no root that was invalid at its call is left.
  absl::Status ZapInvalidatedRoots();
  // Roots that were invalidated and are not gone yet.
  size_t invalid_root_count() const { return RootIds().size() - 1; }

  // --- Walks: lock-free ------------------------------------------------------

  // The path from the root to `gfn`, root entry first. REQUIRES: in span().
  std::vector<WalkedEntry> WalkGfn(Gfn gfn) const;
  // Appends entries of `range` in pre-order until there are about
  // `max_entries`, and returns where to go on.
  Gfn WalkRange(GfnRange range, const WalkOptions& options, size_t max_entries,
                std::vector<WalkedEntry>& out) const;
  // Calls `visit` with the last-level entry of each of `gfns`.
  // REQUIRES: all in span().
  void WalkFrames(
      absl::Span<const uint64_t> gfns,
      absl::FunctionRef<void(size_t, const WalkedEntry&)> visit) const;

  // Compares the entries of `range` with what the host maps. A disagreement is
  // looked at again as the owner of the entry before it is reported.
  AuditProgress AuditRange(GfnRange range, StopCheck stop,
                           absl::FunctionRef<void(const AuditFinding&)> report);

  // --- Statistics ------------------------------------------------------------

  int64_t Read(MmuCounter counter) const { return counters_.Read(counter); }
  int64_t retired_table_count() const { return pool_.retired_count(); }
  // Linked tables and those that wait for a grace period.
  int64_t page_table_bytes() const {
    return (Read(MmuCounter::kLinkedTables) + pool_.retired_count()) *
           static_cast<int64_t>(kPageSize);
  }

 private:
  friend class TdpMmuPeer;  // tests

  // A frame whose content is discarded again and again, between its load and
  // its map, gives up after this many turns: no other progress is at stake.
  static constexpr int kMaxContentRetries = 16;

  // What a step of a map does to one entry on the host.
  enum class HostAction { kNone, kMap, kProtect };
  // What a fault, or a MapRange, asks of the frames of one Backing.
  struct MapIntent {
    PageLevel max_level;
    Access needed;       // nothing to do where the entry permits this
    bool make_writable;  // new leaves get W
    bool for_fault;      // count what was done as a fault
    bool may_install;    // map frames whose entry is not present
    ChangeSequence::Snapshot sequence;
  };
  struct MapPlan {
    HostAction action = HostAction::kNone;
    Spte target;
  };
  enum class StepResult {
    kNothingToDo,      // frames up to `next` permit the access already
    kMapped,           // frames up to `next` were installed
    kWriteGranted,     // frames up to `next` became writable
    kFrozen,           // another owner is at work on the first frame
    kLostRace,         // the entry changed; look again
    kStale,            // the sequence moved; find out everything again
    kInvalidRootHeld,  // an invalidated root still maps a frame
    kNeedsTable,       // more tables are needed than were at hand
    kTableInUse,       // no huge leaf: a table holds small ones
    kForbidden,        // the first frame is not mapped and may not be
    kNeedsSplit,       // a leaf is too large for one host call
    kHostFailed,       // see `status`; frames up to `next` are done
  };
  struct MapStep {
    StepResult result;
    Gfn next;
    int64_t mapped_frames = 0;
    int host_errno = 0;
    // Entries were frozen and restored: their sleepers must look again.
    bool wake = false;
  };
  enum class ZapStep { kZapped, kDone, kFrozen, kYielded, kSplit, kRetry };

  TdpMmu(RcuDomain& rcu, BackingTable& backings, PageLevel root_level,
         int64_t page_table_limit_bytes);

  // roots.cc
  absl::StatusOr<TdpRoot> NewRoot();
  void PublishRoots(std::vector<TdpRoot> roots)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(roots_mutex_);
  // REQUIRES: an RCU read section.
  const RootSet& Roots() const {
    return *roots_.load(std::memory_order_acquire);
  }
  // The ids of the roots as they are now, the valid one first.
  std::vector<int64_t> RootIds() const;
  absl::Status ZapRoot(int64_t root_id);
  void UnlinkTables(const TdpRoot& root);
  bool UnlinkNextTable(const TdpRoot& root, PageLevel level, Gfn* next);
  // Freezes all entries of a table that nobody can reach any more, waiting for
  // their owners. REQUIRES: the parent entry is frozen by the caller, or the
  // table is a root that was invalidated; no entry is present.
  void FreezeForGood(PageTable* table);

  // entry_changes.cc: the only places where entries change.
  // Writes the final values of a run, accounts for them and releases it.
  void CommitRun(FrozenRun& run, absl::FunctionRef<Spte(int)> final_value);
  // Links a table from `cache` below `entry`, which is `expected`. On a lost
  // race `expected` holds what was found and the table is back in the cache.
  bool TryLinkTable(SptePtr entry, Spte& expected, Gfn gfn, PageLevel level,
                    PageTableCache& cache);
  // Every change of an entry passes here: `was` before it was frozen, `now`
  // after. Accounts for leaves and tables and checks what must hold.
  void OnChanged(Spte was, Spte now, Gfn gfn, PageLevel level);

  // map.cc
  MapPlan PlanFor(Spte old, Gfn gfn, PageLevel level, const Backing& backing,
                  const MapIntent& intent) const;
  MapStep MapOnce(Backing& backing, GfnRange want, const MapIntent& intent,
                  PageTableCache& cache);
  MapStep FreezeForMap(const TdpRoot& root, const Backing& backing,
                       GfnRange want, const MapIntent& intent,
                       PageTableCache& cache, FrozenRun& run, MapPlan& plan);
  MapStep FreezeLeaves(PageTable* table, const Backing& backing, GfnRange want,
                       const MapIntent& intent, FrozenRun& run, MapPlan& plan);
  // For the owner of `run`: true if the sequence moved. Then the old values are
  // back, and the caller wakes the sleepers.
  bool GiveUpIfStale(FrozenRun& run, const MapIntent& intent);
  MapStep CommitMap(Backing& backing, const MapIntent& intent, FrozenRun& run,
                    const MapPlan& plan);
  static bool IsEmptyTable(PageTable* table);
  static bool TryFreezeEmptyTable(PageTable* table);
  bool HeldByInvalidRoot(const RootSet& roots, GfnRange range) const;
  absl::Status ZapInInvalidRoots(GfnRange range);
  absl::Status CheckBacked(GfnRange range);
  // Maps `want`, a piece of one Backing, whole; or fails.
  absl::Status MapPiece(Backing& backing, GfnRange want, MapIntent intent,
                        PageTableCache& cache, int64_t* mapped_frames);

  // fault.cc
  // `content_lost` is set if the frame must be loaded again.
  FaultOutcome TryFastFault(const PageFault& fault, Backing& backing,
                            bool* content_lost);
  void CountFault(FaultResult result);

  // zap.cc
  MmuProgress ZapLeaves(int64_t root_id, GfnRange range, StopCheck stop);
  ZapStep FreezeForZap(int64_t root_id, GfnRange range, FrozenRun& run,
                       BackingPin& pin, Gfn* next);
  absl::Status SplitHugeLeaf(int64_t root_id, Gfn gfn, PageLevel level);
  // REQUIRES: StepResult::kNeedsSplit.
  absl::Status SplitInValidRoot(Gfn gfn) {
    return SplitHugeLeaf(RootIds().front(), gfn, PageLevel::k1G);
  }
  // Wakes the sleepers of every memslot that overlaps `range`.
  void WakeAll(GfnRange range);

  // audit.cc
  WalkedEntry FindEntryFor(const RootSet& roots, Gfn gfn) const;
  absl::Status AuditPiece(Backing& backing, GfnRange piece,
                          absl::FunctionRef<void(const AuditFinding&)> report);
  absl::Status AuditAsOwner(
      Backing& backing, Gfn gfn,
      absl::FunctionRef<void(const AuditFinding&)> report);

  int64_t CountHostCall(int64_t calls = 1) {
    counters_.Add(MmuCounter::kHostCalls, calls);
    return calls;
  }

  // Constant after construction.
  RcuDomain& rcu_;
  BackingTable& backings_;
  const PageLevel root_level_;

  // Provide their own synchronization.
  mutable MmuLock mmu_lock_;
  PageTablePool pool_;
  MmuCounters counters_;
  ChangeSequence sequence_;

  // Replaced under roots_mutex_; a root becomes invalid only while mmu_lock_ is
  // held for writing too. Read inside an RCU section.
  std::atomic<RootSet*> roots_{nullptr};
  Mutex roots_mutex_;
  int64_t next_root_id_ ABSL_GUARDED_BY(roots_mutex_) = 1;
  // One zapper at a time; taken before every other lock.
  Mutex zap_roots_mutex_;
};

}  // namespace tdp

#endif  // ENGINE_MMU_TDP_MMU_H_
