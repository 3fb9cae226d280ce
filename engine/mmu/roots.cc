// The life of roots: creation, invalidation, zapping, teardown.

#include <utility>

#include "engine/base/check.h"
#include "engine/base/trace.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {

TdpMmu::TdpMmu(RcuDomain& rcu, BackingTable& backings, PageLevel root_level,
               int64_t page_table_limit_bytes, PageTableBudget* budget)
    : rcu_(rcu),
      backings_(backings),
      root_level_(root_level),
      pool_(rcu, page_table_limit_bytes, budget),
      limits_(rcu) {}

absl::StatusOr<std::unique_ptr<TdpMmu>> TdpMmu::Create(
    RcuDomain& rcu, BackingTable& backings, PageLevel root_level,
    int64_t page_table_limit_bytes, PageTableBudget* budget) {
  auto mmu = std::unique_ptr<TdpMmu>(
      new TdpMmu(rcu, backings, root_level, page_table_limit_bytes, budget));
  absl::StatusOr<TdpRoot> root = mmu->NewRoot();
  if (!root.ok()) return root.status();
  MutexLock lock(mmu->roots_mutex_);
  mmu->PublishRoots({*root});
  return mmu;
}

bool TdpMmu::AwaitTableRoom() {
  return pool_.AwaitRoom(static_cast<int>(root_level_) - 1);
}

void TdpMmu::StopAwaitingTableRoom() { pool_.StopAwaitingRoom(); }

void TdpMmu::SetTableRoomListener(std::function<void()> on_room) {
  pool_.SetRoomListener(std::move(on_room));
}

TdpMmu::~TdpMmu() {
  RootSet* roots = roots_.load(std::memory_order_relaxed);
  if (roots == nullptr) return;  // Create() failed
  for (const TdpRoot& root : roots->roots) {
    UnlinkTables(root);
    FreezeForGood(root.table);
    counters_.Add(MmuCounter::kLinkedTables, -1);
    pool_.Retire(root.table);
    delete root.directory;
    delete root.state;
  }
  TDP_CHECK(Read(MmuCounter::kLeaf4K) == 0 && Read(MmuCounter::kLeaf2M) == 0 &&
                Read(MmuCounter::kLeaf1G) == 0,
            "a VM's leaves are zapped before its tables go");
  TDP_CHECK(Read(MmuCounter::kLinkedTables) == 0, "every table is accounted");
  // Readers are gone; the pool's destructor waits for the tables.
  delete roots;
}

absl::StatusOr<TdpRoot> TdpMmu::NewRoot() {
  absl::StatusOr<std::unique_ptr<LeafDirectory>> directory =
      LeafDirectory::Create(FramesOfRoot(root_level_));
  if (!directory.ok()) return directory.status();
  PageTable* table = nullptr;
  if (absl::Status s = pool_.AllocateExempt(&table); !s.ok()) return s;
  PageTableHeader& header = PageTablePool::HeaderOf(table);
  header.level = root_level_;
  header.base_gfn = Gfn(0);
  counters_.Add(MmuCounter::kLinkedTables, 1);
  MutexLock lock(roots_mutex_);
  return TdpRoot{.id = next_root_id_++,
                 .role = {.level = root_level_},
                 .table = table,
                 .directory = directory->release(),
                 .state = new RootState};
}

void TdpMmu::PublishRoots(std::vector<TdpRoot> roots) {
  auto* next = new RootSet{.rcu = {}, .roots = std::move(roots)};
  // Release: a reader that sees the set sees what is in it. Acquire: the old
  // set is handed to its reclaimer.
  RootSet* old = roots_.exchange(next, std::memory_order_acq_rel);
  if (old != nullptr) {
    rcu_.Retire(&old->rcu, sizeof(RootSet), &RootSet::Reclaim);
  }
}

std::vector<TdpMmu::RootRef> TdpMmu::GetRoots(WhichRoots which) {
  RcuReadGuard rcu(rcu_);
  std::vector<RootRef> found;
  for (const TdpRoot& root : Roots().roots) {
    if (which == WhichRoots::kInvalid && !root.role.invalid) continue;
    // One without references is empty, and on its way out.
    if (root.state->TryGet()) found.emplace_back(*this, root);
  }
  return found;
}

TdpMmu::RootRef TdpMmu::GetValidRoot() {
  for (;;) {
    RcuReadGuard rcu(rcu_);
    const TdpRoot& root = Roots().valid();
    // False only if it became invalid and was zapped since it was found.
    if (root.state->TryGet()) return RootRef(*this, root);
  }
}

void TdpMmu::PutRoot(const TdpRoot& root) {
  if (!root.state->Put()) return;
  {
    MutexLock lock(roots_mutex_);
    std::vector<TdpRoot> rest;
    {
      RcuReadGuard rcu(rcu_);
      for (const TdpRoot& other : Roots().roots) {
        TDP_CHECK(other.id != root.id || other.role.invalid,
                  "the MMU keeps the valid root");
        if (other.id != root.id) rest.push_back(other);
      }
    }
    PublishRoots(std::move(rest));
  }
  // Readers may still be in the table; there is nothing in it, and nothing
  // comes.
  FreezeForGood(root.table);
  counters_.Add(MmuCounter::kLinkedTables, -1);
  pool_.Retire(root.table);
  LeafDirectory::Retire(rcu_, root.directory);
  rcu_.Retire(&root.state->rcu, sizeof(RootState), &RootState::Reclaim);
}

absl::StatusOr<int> TdpMmu::InvalidateRoots() {
  absl::StatusOr<TdpRoot> fresh = NewRoot();
  if (!fresh.ok()) return fresh.status();
  MutexLock roots_lock(roots_mutex_);
  std::vector<TdpRoot> roots = {*fresh};
  {
    RcuReadGuard rcu(rcu_);
    for (TdpRoot root : Roots().roots) {
      if (!root.role.invalid) root.state->to_be_zapped.store(true);
      root.role.invalid = true;
      roots.push_back(root);
    }
  }
  // A thread that installs an entry holds mmu_lock for reading while it looks
  // for the valid root and freezes: once the write lock is held, every entry
  // that it put into the old root is there to be found, frozen or present.
  MmuWriteGuard lock(mmu_lock_);
  PublishRoots(std::move(roots));
  // What a fault found out before is about the old root.
  sequence_.AdvanceAll();
  TDP_TRACE(roots_invalidated, fresh->id);
  return 1;
}

absl::Status TdpMmu::ZapInvalidatedRoots() {
  MutexLock lock(zap_roots_mutex_);
  for (const RootRef& root : GetRoots(WhichRoots::kInvalid)) {
    if (absl::Status s = ZapRoot(*root); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// Zaps the leaves, then unlinks the tables, the lowest first, so that each step
// is short; then drops the reference that the MMU held while the root was
// valid.
absl::Status TdpMmu::ZapRoot(const TdpRoot& root) {
  // Relaxed: set before the root set was published, then under
  // zap_roots_mutex_.
  if (!root.state->to_be_zapped.load(std::memory_order_relaxed)) {
    return absl::OkStatus();
  }
  const MmuProgress zapped = ZapLeaves(root, span(), [] { return false; });
  if (!zapped.status.ok()) return zapped.status;
  UnlinkTables(root);
  root.state->to_be_zapped.store(false, std::memory_order_relaxed);
  TDP_TRACE(root_zapped, root.id);
  PutRoot(root);
  return absl::OkStatus();
}

int64_t TdpMmu::leaf_directory_bytes() const {
  RcuReadGuard rcu(rcu_);
  int64_t bytes = 0;
  for (const TdpRoot& root : Roots().roots) {
    bytes += root.directory->resident_bytes();
  }
  return bytes;
}

// Unlinks all tables of a root that has no leaves, the lowest first, so that
// each step is short.
void TdpMmu::UnlinkTables(const TdpRoot& root) {
  for (PageLevel level = PageLevel::k2M; level <= root.role.level;
       level = ParentLevel(level)) {
    GfnRange rest = span();
    while (UnlinkNextTable(root, level, &rest)) {
      // Retired tables are bounded; this thread owns nothing now.
      if (rcu_.OverLimit()) rcu_.WaitUntilUnderLimit();
    }
  }
}

void TdpMmu::UnlinkLeafTables(GfnRange range) {
  // The roots are listed first: nobody links a table in one that joins later.
  for (const RootRef& root : GetRoots(WhichRoots::kAll)) {
    GfnRange rest = range.Intersect(span());
    while (UnlinkNextTable(*root, PageLevel::k2M, &rest)) {
      if (rcu_.OverLimit()) rcu_.WaitUntilUnderLimit();
    }
  }
}

// Unlinks the first table of `rest` that an entry of `level` points to. False
// if there is none. REQUIRES: no leaf is in it, and nobody installs one.
bool TdpMmu::UnlinkNextTable(const TdpRoot& root, PageLevel level,
                             GfnRange* rest) {
  // An invalidated root is not walked through its directory any more.
  const bool in_directory = level == PageLevel::k2M && !root.role.invalid;
  FrozenRun run;
  FrozenBackoff backoff;
  while (run.empty()) {
    bool must_wait = false;
    {
      RcuReadGuard rcu(rcu_);
      TdpIterator it(root.tree(), *rest, level);
      for (; it.valid(); it.Next()) {
        rest->start = it.next_gfn();
        const Spte spte = it.spte();
        must_wait = spte.IsFrozen();
        if (must_wait) break;
        if (it.level() != level || !spte.IsTable(level)) continue;
        must_wait = (in_directory &&
                     !root.directory->MayUnlink(it.gfn(), TableOf(spte))) ||
                    !run.TryExtend(it.entry(), it.gfn(), level, spte,
                                   Spte::NonPresent());
        break;
      }
      if (!it.valid()) return false;
    }
    if (must_wait) backoff.Wait();
  }
  PageTable* table = TableOf(run.old_spte(0));
  FreezeForGood(table);
  if (in_directory) root.directory->Clear(run.gfn(0));
  CommitTargets(run);
  pool_.Retire(table);
  return true;
}

void TdpMmu::FreezeForGood(PageTable* table) {
  FrozenBackoff backoff;
  for (int i = 0; i < kEntriesPerTable;) {
    bool frozen_by_other = false;
    {
      RcuReadGuard rcu(rcu_);
      const Spte spte = ReadSpte(table->EntryAt(i));
      TDP_CHECK(!spte.IsPresent(), "a table is unlinked after its entries");
      frozen_by_other = spte.IsFrozen() ||
                        !TryWriteSpte(table->EntryAt(i), spte, Spte::Frozen());
    }
    // Owners never wait for others, so waiting here, with the parent frozen,
    // ends.
    if (frozen_by_other) {
      backoff.Wait();
    } else {
      ++i;
    }
  }
}

}  // namespace tdp
