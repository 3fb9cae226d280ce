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
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/mmu/access_limits.h"
#include "engine/mmu/change_sequence.h"
#include "engine/mmu/frame_view.h"
#include "engine/mmu/frozen_run.h"
#include "engine/mmu/mmu_counters.h"
#include "engine/mmu/mmu_types.h"
#include "engine/mmu/root_set.h"
#include "engine/paging/page_table_pool.h"
#include "engine/paging/tdp_iterator.h"
#include "engine/sync/mmu_lock.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu.h"

namespace tdp {

class TdpMmu {
 public:
  // `page_table_limit_bytes` bounds the tables, `budget` those of all VMs if it
  // is not null; roots are exempt. `rcu`, `backings` and `budget` outlive the
  // object.
  static absl::StatusOr<std::unique_ptr<TdpMmu>> Create(
      RcuDomain& rcu, BackingTable& backings, PageLevel root_level,
      int64_t page_table_limit_bytes, PageTableBudget* budget = nullptr);
  // REQUIRES: no other thread uses the object and no leaf is left.
  ~TdpMmu();
  TdpMmu(const TdpMmu&) = delete;
  TdpMmu& operator=(const TdpMmu&) = delete;

  // Frames that the root spans.
  GfnRange span() const { return {Gfn(0), Gfn(FramesOfRoot(root_level_))}; }
  PageLevel root_level() const { return root_level_; }

  // --- Verbs that change entries -------------------------------------------
  // A range that cuts a host page of 2M is GRANULE_UNSUPPORTED: checked first,
  // it changes nothing (host_pages.h).

  // Serves a guest fault. The vCPU is awake afterwards (or will be, by the
  // owner that kRetry met), except after kUnbacked, kChanging, kForbidden
  // and kFailed: then the access is not granted, and the caller decides.
  FaultOutcome HandleFault(const PageFault& fault);
  ChangeSequence::Snapshot ReadSequence(Gfn gfn) const {
    return sequence_.Read(gfn);
  }
  uint64_t ReadSweeps() const { return sequence_.sweeps(); }

  // Maps every frame of `range`, as a fault on each would. Every frame must be
  // backed: GFN_NOT_BACKED, checked first, changes nothing. OPERATION_CONFLICT
  // while a memslot of the range changes.
  MmuProgress MapRange(GfnRange range, const MapOptions& options,
                       StopCheck stop);

  // Removes the leaves that overlap `range` from all roots. Tables stay.
  MmuProgress ZapRange(GfnRange range, StopCheck stop);

  // Limits the access to a range, now and whenever a frame of it is mapped
  // again. A huge leaf that straddles is split. Every frame must be backed, as
  // for MapRange(). An access beyond the limit is kForbidden.
  MmuProgress ProtectRange(GfnRange range, Access limit, StopCheck stop);
  // The most that ProtectRange() grants on a frame; not what its memslot does.
  Access LimitOf(Gfn gfn) const;
  // For a memslot that moves or goes, which is closed for map and zapped.
  void MoveLimits(GfnRange from, Gfn to) { limits_.Move(from, to); }
  void ClearLimits(GfnRange range) { limits_.Clear(range); }

  // Takes W from the leaves of `min_level` and above that overlap `range`, so
  // that the next write of each faults and, unlike after ProtectRange(), is
  // granted.
  MmuProgress WriteProtectRange(GfnRange range, PageLevel min_level,
                                StopCheck stop);
  // The same for the leaves that hold a frame whose bit is set: bit i of word j
  // stands for frame `first` + 64 * j + i.
  MmuProgress WriteProtectFrames(Gfn first, absl::Span<const uint64_t> bits,
                                 StopCheck stop);
  // Undoes both at once, where the next write would.
  MmuProgress GrantWrites(GfnRange range, StopCheck stop);

  // Replaces the leaves above `target_level` that overlap `range`. Every frame
  // stays mapped, with the same access, at every instant.
  // REQUIRES: target_level is k4K or k2M.
  MmuProgress SplitHugePages(GfnRange range, PageLevel target_level,
                             StopCheck stop);
  // Replaces each table of leaves inside `range` by one huge leaf, up to
  // `max_level`, where all of them are present with equal access and lie in one
  // memslot. Every frame stays mapped at every instant. What does not fit is
  // left as it is, and so is a table that others are at work on.
  // REQUIRES: max_level is k2M or k1G.
  MmuProgress CollapseHugePages(GfnRange range, PageLevel max_level,
                                StopCheck stop);

  // Tests, and unless `test_only` clears, the Accessed bits of the leaves that
  // overlap `range`, without mmu_lock. `on_young` is told of young leaves, with
  // all of their frames, where they reach beyond the range, too. A leaf that
  // another thread is changing is skipped.
  MmuProgress AgeRange(GfnRange range, bool test_only, StopCheck stop,
                       absl::FunctionRef<void(GfnRange)> on_young);

  // Runs operations on disjoint ranges as one change: who has read the new
  // value of one entry reads no old value of another afterwards. Every frame of
  // a kMap or kProtect must be backed. Leaves that straddle the end of an
  // operation are split, and kMap installs the smallest ones. If the host
  // fails, every frame has its old access or less. ABORTED if other owners are
  // in the way again and again.
  BatchOutcome ApplyBatch(absl::Span<const MmuOperation> operations);

  // Makes the valid root invalid and puts an empty one in its place. The
  // entries of the old one stay in force until ZapInvalidatedRoots() has
  // removed them. Takes mmu_lock for writing, for a moment. Returns the number
  // of roots invalidated.
  absl::StatusOr<int> InvalidateRoots();
  // Zaps every invalidated root and retires its tables. Callers may run at the
  // same time; each returns once every root that was invalid at its call is
  // empty. It is gone with the last verb that still works on it.
  absl::Status ZapInvalidatedRoots();
  // Removes the tables of 4K entries in `range`, in which no memslot is: one
  // whose host pages are larger may be published there. REQUIRES: all memslots
  // that were there were zapped.
  void UnlinkLeafTables(GfnRange range);
  // Roots that were invalidated and are not gone yet.
  size_t invalid_root_count() const {
    RcuReadGuard rcu(rcu_);
    return Roots().roots.size() - 1;
  }

  // --- Walks: lock-free ------------------------------------------------------

  // The path from the root to `gfn`, root entry first. REQUIRES: in span().
  std::vector<WalkedEntry> WalkGfn(Gfn gfn) const;
  // Appends entries of `range` in pre-order until there are about
  // `max_entries`, and returns where to go on.
  Gfn WalkRange(GfnRange range, const WalkOptions& options, size_t max_entries,
                std::vector<WalkedEntry>& out) const;
  // The last entry on the path to `gfn`. REQUIRES: in span().
  WalkedEntry WalkFrame(Gfn gfn) const {
    RcuReadGuard rcu(rcu_);
    return FrameView(Roots().valid()).Find(gfn);
  }
  // Calls visit(i, entry) with the last entry on the path to each of `gfns`.
  // REQUIRES: all in span(); `visit` is quick and waits for nothing.
  template <typename Visit>
  void WalkFrames(absl::Span<const uint64_t> gfns, Prefetch prefetch,
                  Visit&& visit) const;

  // Compares the entries of `range` with what the host maps. A disagreement is
  // looked at again as the owner of the entry before it is reported.
  AuditProgress AuditRange(GfnRange range, StopCheck stop,
                           absl::FunctionRef<void(const AuditFinding&)> report);

  // As PageTablePool::AwaitRoom(), of the tables that a fault asks for.
  bool AwaitTableRoom();
  void StopAwaitingTableRoom();
  void SetTableRoomListener(std::function<void()> on_room);

  // --- Statistics ------------------------------------------------------------
  int64_t Read(MmuCounter counter) const { return counters_.Read(counter); }
  // Of mmu_lock.
  MmuLock::WriterHolds writer_holds() const { return mmu_lock_.writer_holds(); }
  // Memory of the linked tables beside the tables themselves.
  int64_t page_table_header_bytes() const {
    return Read(MmuCounter::kLinkedTables) *
           static_cast<int64_t>(sizeof(PageTableHeader));
  }
  int64_t leaf_directory_bytes() const;
  int64_t retired_table_count() const { return pool_.retired_count(); }
  // Linked tables and those that wait for a grace period.
  int64_t page_table_bytes() const {
    return (Read(MmuCounter::kLinkedTables) + pool_.retired_count()) *
           static_cast<int64_t>(kPageSize);
  }

 private:
  friend class TdpMmuPeer;  // tests
  class Batch;              // batch.cc

  // A frame whose content is discarded again and again, between its load and
  // its map, gives up after this many turns: no other progress is at stake.
  static constexpr int kMaxContentRetries = 16;

  // What a step of a map does to one entry on the host.
  enum class HostAction { kNone, kMap, kProtect };
  // What a fault, or a MapRange, asks of the frames of one Backing.
  struct MapIntent {
    PageLevel max_level;
    Access needed;        // nothing to do where the entry permits this
    bool make_writable;   // new leaves get W
    bool for_fault;       // count what was done as a fault
    bool may_install;     // map frames whose entry is not present
    bool frame_by_frame;  // no leaf above a host page is granted writing
    ChangeSequence::Snapshot sequence;
  };
  // What the leaves of one Backing are made of; constant while it is pinned.
  struct LeafSource {
    explicit LeafSource(const Backing& backing)
        : start(backing.range().start),
          base_pfn(backing.base_pfn()),
          writable(backing.writable()) {}
    Gfn start;
    Pfn base_pfn;
    bool writable;
  };
  struct MapPlan {
    HostAction action = HostAction::kNone;
    Spte target;
  };
  static Spte NewLeaf(const LeafSource& source, Gfn gfn, PageLevel level,
                      bool make_writable, Access limit) {
    const bool mmu_writable = source.writable && limit.write;
    return Spte::MakeLeaf({.pfn = source.base_pfn + (gfn - source.start),
                           .writable = mmu_writable && make_writable,
                           .mmu_writable = mmu_writable,
                           .host_writable = source.writable,
                           .accessed = true},
                          level);
  }
  static HostProtection HostProtectionOf(Spte leaf) {
    return leaf.IsWritable() ? HostProtection::kReadWrite
                             : HostProtection::kReadOnly;
  }
  enum class StepResult {
    kNothingToDo,      // frames up to `next` permit the access already
    kMapped,           // frames up to `next` were installed
    kWriteGranted,     // frames up to `next` became writable
    kFrozen,           // another owner is at work on the first frame
    kLostRace,         // the entry changed; look again
    kStale,            // the sequence moved; find out everything again
    kInvalidRootHeld,  // an invalidated root still maps a frame
    kNeedsTable,       // more tables are needed than were at hand
    kNoHugeLeaf,       // a table holds small leaves, or limits differ
    kForbidden,        // frames up to `next` are not mapped and may not be
    kNeedsSplit,       // a 1G leaf is too large for one host call
    kHostFailed,       // see `host_errno`; frames up to `next` are done
  };
  struct MapStep {
    StepResult result;
    Gfn next;
    int64_t mapped_frames = 0;
    int host_errno = 0;
    // Entries were frozen and restored: their sleepers must look again.
    bool wake = false;
  };
  // What a ranged verb found to do.
  enum class LeafStep {
    kFrozen,      // a run is frozen
    kDone,        // nothing is left in the range
    kWait,        // another owner is at work
    kYield,       // nothing frozen; go on at `next`
    kNeedsSplit,  // a leaf is to be split first; `next`, `split_level`
    kRetry,       // lost a race; look again
  };
  // Whether a split may fail at the page-table limit.
  enum class TableLimit { kEnforced, kIgnored };

  TdpMmu(RcuDomain& rcu, BackingTable& backings, PageLevel root_level,
         int64_t page_table_limit_bytes, PageTableBudget* budget);

  // roots.cc
  absl::StatusOr<TdpRoot> NewRoot();
  void PublishRoots(std::vector<TdpRoot> roots)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(roots_mutex_);
  // REQUIRES: an RCU read section.
  const RootSet& Roots() const {
    return *roots_.load(std::memory_order_acquire);
  }
  // Keeps a root: it is not taken down before the reference is gone.
  // REQUIRES of the destructor: as for a verb.
  class RootRef {
   public:
    RootRef(TdpMmu& mmu, const TdpRoot& root) : mmu_(&mmu), root_(root) {}
    RootRef(RootRef&& other) noexcept
        : mmu_(std::exchange(other.mmu_, nullptr)), root_(other.root_) {}
    RootRef& operator=(RootRef&&) = delete;
    ~RootRef() {
      if (mmu_ != nullptr) mmu_->PutRoot(root_);
    }
    const TdpRoot& operator*() const { return root_; }
    const TdpRoot* operator->() const { return &root_; }

   private:
    TdpMmu* mmu_;
    const TdpRoot root_;
  };
  enum class WhichRoots { kAll, kInvalid };
  // The roots as they are now, the valid one first.
  std::vector<RootRef> GetRoots(WhichRoots which);
  RootRef GetValidRoot();
  void PutRoot(const TdpRoot& root);
  absl::Status ZapRoot(const TdpRoot& root);
  void UnlinkTables(const TdpRoot& root);
  bool UnlinkNextTable(const TdpRoot& root, PageLevel level, GfnRange* rest);
  // Freezes all entries of a table that nobody can reach any more, waiting for
  // their owners. REQUIRES: the parent entry is frozen by the caller, or the
  // table is a root that was invalidated; no entry is present.
  void FreezeForGood(PageTable* table);

  // entry_changes.cc: the only places where entries change.
  // Writes the targets of a run as final values, accounts for them and releases
  // it. Or the values that it had.
  void CommitTargets(FrozenRun& run);
  void RestoreRun(FrozenRun& run);
  // Links a table from `cache` below `entry`, which is not present. False, and
  // the table is back in the cache, if it is now.
  // REQUIRES: mmu_lock_ held; `root` is valid.
  bool TryLinkTable(const TdpRoot& root, SptePtr entry, Gfn gfn,
                    PageLevel level, PageTableCache& cache);
  // Every change of an entry passes here: `was` before it was frozen, `now`
  // after. Checks what must hold and notes what is to be accounted.
  static void OnChanged(Spte was, Spte now, Gfn gfn, PageLevel level,
                        EntryDelta& delta);
  void Account(const EntryDelta& delta);
  void Account(const FrozenRun& run);

  // map.cc
  static MapPlan PlanFor(Spte old, Gfn gfn, PageLevel level,
                         const LeafSource& source, const MapIntent& intent,
                         Access limit);
  MapStep MapOnce(Backing& backing, GfnRange want, const MapIntent& intent,
                  PageTableCache& cache);
  MapStep FreezeForMap(const TdpRoot& root, const Backing& backing,
                       GfnRange want, const MapIntent& intent,
                       PageTableCache& cache, FrozenRun& run, MapPlan& plan);
  MapStep FreezeOverTable(const TdpRoot& root, const LeafSource& source,
                          SptePtr entry, Spte spte, GfnRange want,
                          const MapIntent& intent, FrozenRun& run,
                          MapPlan& plan);
  MapStep FreezeNewLeaves(SptePtr entry, const LeafSource& source,
                          GfnRange want, const MapIntent& intent, Access limit,
                          FrozenRun& run, MapPlan& plan);
  MapStep FreezeLeaves(PageTable* table, const LeafSource& source,
                       GfnRange want, const MapIntent& intent, FrozenRun& run,
                       MapPlan& plan);
  static bool MayInstall(const MapIntent& intent, Access limit);
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
  static absl::Status ChangingError(Gfn gfn);
  // Maps `want`, a piece of one Backing, whole; or fails.
  absl::Status MapPiece(Backing& backing, GfnRange want, MapIntent intent,
                        PageTableCache& cache, int64_t* mapped_frames);

  // fault.cc
  FaultOutcome ServeFault(const PageFault& asked);
  std::optional<FaultResult> TryInstallFrame(const PageFault& fault,
                                             Backing& backing,
                                             ChangeSequence::Snapshot sequence);
  static Gfn FirstFree(PageTable* table, Gfn gfn, Gfn start);
  // Nothing: take the slow path. `content_lost` is set if the frame must be
  // loaded again.
  std::optional<FaultOutcome> TryFastFault(const PageFault& fault,
                                           Backing& backing,
                                           ChangeSequence::Snapshot sequence,
                                           bool* content_lost);
  void CountFault(FaultResult result);

  // leaf_changes.h: the driver of the ranged verbs.
  template <typename Verb>
  MmuProgress ChangeLeaves(const TdpRoot& root, GfnRange range, Verb& verb,
                           StopCheck stop);
  template <typename Verb>
  LeafStep FreezeLeafRun(const TdpRoot& root, GfnRange range, Verb& verb,
                         FrozenRun& run, BackingPin& pin, Gfn* next,
                         PageLevel* split_level);
  template <typename Verb>
  MmuProgress ChangeLeavesInAllRoots(GfnRange range, Verb& verb,
                                     StopCheck stop);

  // protect.cc
  // Makes the leaves of `range` as the limits say.
  MmuProgress ApplyLimits(GfnRange range)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(limits_.change_mutex());
  // For a limit that was set, and taken back after a failure: entries may have
  // been made under it. What the host does not take away stays granted, and the
  // limit says so.
  void FollowWithdrawnLimit(const AccessLimit& withdrawn)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(limits_.change_mutex());

  // zap.cc
  MmuProgress ZapLeaves(const TdpRoot& root, GfnRange range, StopCheck stop);
  HostCallResult MakeLeavesTrue(Backing& backing, FrozenRun& run);

  // split.cc
  // False if there is no such leaf any more.
  absl::StatusOr<bool> SplitHugeLeaf(const TdpRoot& root, Gfn gfn,
                                     PageLevel level, TableLimit limit);
  absl::Status SplitFirst(const TdpRoot& root, Gfn gfn, PageLevel level);
  // REQUIRES: StepResult::kNeedsSplit.
  absl::Status SplitInValidRoot(Gfn gfn);

  // collapse.cc
  bool CollapseTable(Gfn gfn, PageLevel level);
  MmuProgress CollapseTables(GfnRange range, PageLevel level);

  // Wakes the sleepers of every memslot that overlaps `range`.
  void WakeAll(GfnRange range);

  // audit.cc
  static LastEntry FindEntryFor(const RootSet& roots, Gfn gfn);
  absl::Status AuditPiece(Backing& backing, GfnRange piece,
                          absl::FunctionRef<void(const AuditFinding&)> report);
  absl::Status AuditAsOwner(
      Backing& backing, Gfn gfn,
      absl::FunctionRef<void(const AuditFinding&)> report);

  void CountHostCall() { counters_.Add(MmuCounter::kHostCalls, 1); }

  // Constant after construction.
  RcuDomain& rcu_;
  BackingTable& backings_;
  const PageLevel root_level_;

  // Provide their own synchronization.
  mutable MmuLock mmu_lock_;
  PageTablePool pool_;
  MmuCounters counters_;
  ChangeSequence sequence_;
  AccessLimits limits_;

  // Replaced under roots_mutex_; a root becomes invalid only while mmu_lock_ is
  // held for writing too. Read inside an RCU section.
  std::atomic<RootSet*> roots_{nullptr};
  Mutex roots_mutex_;
  int64_t next_root_id_ ABSL_GUARDED_BY(roots_mutex_) = 1;
  // One zapper at a time; taken before every other lock.
  Mutex zap_roots_mutex_;
};

// Inlined, so that what `visit` keeps stays in registers: how many walks wait
// for memory at a time depends on how few instructions each one is.
template <typename Visit>
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void TdpMmu::WalkFrames(
    absl::Span<const uint64_t> gfns, Prefetch prefetch, Visit&& visit) const {
  // Frames walked in one read section: entering one costs about as much as a
  // walk, and a long one would hold up reclaim.
  constexpr size_t kSectionFrames = 64;
  // How far ahead entries are asked for: as many as the processor can wait for
  // at a time. Those of the next section too, or each would begin by waiting.
  constexpr size_t kPrefetchDistance = 32;
  const uint64_t* const frames = gfns.data();  // without the span's checks
  for (size_t begin = 0; begin < gfns.size(); begin += kSectionFrames) {
    const size_t end = std::min(begin + kSectionFrames, gfns.size());
    RcuReadGuard rcu(rcu_);
    const FrameView view(Roots().valid());
    size_t i = begin;
    if (prefetch == Prefetch::kYes && gfns.size() > kPrefetchDistance) {
      const size_t last = std::min(end, gfns.size() - kPrefetchDistance);
      for (; i < last; ++i) {
        view.PrefetchEntry(Gfn(frames[i + kPrefetchDistance]));
        visit(i, view.Find(Gfn(frames[i])));
      }
    }
    for (; i < end; ++i) visit(i, view.Find(Gfn(frames[i])));
  }
}

}  // namespace tdp

#endif  // ENGINE_MMU_TDP_MMU_H_
