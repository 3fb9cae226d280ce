// PageTable: one page of 512 entries, its header, and the accessors that look
// through a pointer to an entry.
//
// Thread safety: entries are read and written by any number of threads.
//
// The RCU rule: every access to an entry is made inside an RCU read section,
// also where holding mmu_lock for writing would make that unnecessary, because
// the memory of a table that was unlinked is given back after a grace period
// and by nothing else. The owner of a FROZEN entry may carry its SptePtr out of
// one section and into the next: a table with a frozen entry is not retired.
// The same goes for the table below a frozen parent entry, which only the
// parent's owner unlinks.
//
// Invariants:
//   Only its owner writes a FROZEN entry. Everybody else waits for another
//   value, or gives up.
//   A present table entry points at a table whose header has the level below
//   and the gfn of the entry.

#ifndef ENGINE_PAGING_PAGE_TABLE_H_
#define ENGINE_PAGING_PAGE_TABLE_H_

#include <atomic>
#include <cstdint>

#include "engine/base/test_hooks.h"
#include "engine/base/types.h"
#include "engine/paging/spte.h"
#include "engine/sync/rcu.h"

namespace tdp {

class PageTablePool;

// The location of an entry: a pointer that means something inside an RCU read
// section only (see the rule above).
class SptePtr {
 public:
  constexpr SptePtr() = default;
  constexpr explicit SptePtr(std::atomic<uint64_t>* entry) : entry_(entry) {}

  explicit operator bool() const { return entry_ != nullptr; }
  friend bool operator==(SptePtr, SptePtr) = default;
  // The entry `count` places further in the same table.
  SptePtr operator+(int count) const { return SptePtr(entry_ + count); }

 private:
  friend Spte ReadSpte(SptePtr entry);
  friend bool TryWriteSpte(SptePtr entry, Spte expected, Spte desired);
  friend void WriteOwnedSpte(SptePtr entry, Spte value);

  std::atomic<uint64_t>* entry_ = nullptr;
};

// Reads an entry. What the entry points to, or what its owner did before it
// wrote the value, is visible. Sequentially consistent, which costs a load
// nothing on x86-64: who changes a range looks for entries after it has
// advanced the sequence that installers check (engine/mmu/change_sequence.h).
inline Spte ReadSpte(SptePtr entry) {
  test_hooks::BeforeStep(TestStep::kReadEntry, entry.entry_);
  const uint64_t raw = entry.entry_->load(std::memory_order_seq_cst);
  test_hooks::CheckEntry(entry.entry_, raw);
  return Spte::FromRaw(raw);
}

// Replaces `expected` by `desired`. Returns false, with no effect, if the entry
// was something else: what it is now is found from the root, for its table may
// be gone. A table is filled before it is linked. Sequentially consistent for
// the installer's part of the same protocol. Relaxed on failure: nothing that
// was read is used.
[[nodiscard]] inline bool TryWriteSpte(SptePtr entry, Spte expected,
                                       Spte desired) {
  test_hooks::BeforeStep(TestStep::kTryWriteEntry, entry.entry_);
  if (test_hooks::LosesRace(entry.entry_)) return false;
  uint64_t raw = expected.raw();
  const bool written = entry.entry_->compare_exchange_strong(
      raw, desired.raw(), std::memory_order_seq_cst, std::memory_order_relaxed);
  test_hooks::CheckEntry(entry.entry_, raw);
  return written;
}

// Writes the final value of an entry that the caller has frozen. Release: the
// host call that makes the value true happens before it.
inline void WriteOwnedSpte(SptePtr entry, Spte value) {
  test_hooks::BeforeStep(TestStep::kWriteOwnedEntry, entry.entry_);
  entry.entry_->store(value.raw(), std::memory_order_release);
}

// The 512 entries; a page of its own, so that its address serves as a PFN.
struct alignas(kPageSize) PageTable {
  std::atomic<uint64_t> entries[kEntriesPerTable];

  SptePtr EntryAt(int index) { return SptePtr(&entries[index]); }
};
static_assert(sizeof(PageTable) == kPageSize);

// What the engine knows about a table. Found from the table's address in O(1):
// the pool keeps headers and tables in one naturally aligned chunk.
struct PageTableHeader {
  RcuHead rcu;
  PageTablePool* pool = nullptr;
  Gfn base_gfn = Gfn(0);             // constant once linked
  PageLevel level = PageLevel::k4K;  // level of its entries
};

// The table that a present non-leaf entry points to.
inline PageTable* TableOf(Spte spte) {
  return reinterpret_cast<PageTable*>(spte.table_address());
}
inline Spte MakeTableSpte(const PageTable* table) {
  return Spte::MakeTable(reinterpret_cast<uint64_t>(table));
}

}  // namespace tdp

#endif  // ENGINE_PAGING_PAGE_TABLE_H_
