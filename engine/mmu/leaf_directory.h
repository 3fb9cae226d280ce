// LeafDirectory: the leaf tables of a root, by block of 2 MiB: a paging-
// structure cache in software. A walk finds its table with one load where it
// would otherwise descend through four.
//
// What it does not say, a walk finds by descending: a null is no answer, and a
// table in which the entry is FROZEN may have been unlinked.
//
// It is address space for the first 16 TiB of a root, of which only the pages
// that name tables are ever backed by memory.
//
// Thread safety: all methods, from any thread; Find() in an RCU read section.
//
// Invariants:
//   An element is set by who links the table, at last, and cleared by who
//   unlinks it, before the parent entry gets its final value.
//   A table is not unlinked before its element is set. So nobody sets an
//   element after it was cleared for good.
//   A table that an element names is not reclaimed before the readers that saw
//   it have left: it is retired after its element was cleared, or together with
//   the root, which nobody walks through its directory any more.

#ifndef ENGINE_MMU_LEAF_DIRECTORY_H_
#define ENGINE_MMU_LEAF_DIRECTORY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/base/types.h"
#include "engine/paging/page_table.h"
#include "engine/sync/rcu.h"

namespace tdp {

class LeafDirectory {
 public:
  // For a root that spans `frames`. HOST_MEMORY_EXHAUSTED if the host gives no
  // address space.
  static absl::StatusOr<std::unique_ptr<LeafDirectory>> Create(uint64_t frames);
  ~LeafDirectory();
  // Destroys it after a grace period.
  static void Retire(RcuDomain& rcu, LeafDirectory* directory);
  LeafDirectory(const LeafDirectory&) = delete;
  LeafDirectory& operator=(const LeafDirectory&) = delete;

  // What Find() needs, for a reader to keep: a load from an object may follow
  // each read of an entry, one from a local variable need not.
  class View {
   public:
    explicit View(const LeafDirectory& directory)
        : tables_(directory.tables_), size_(directory.size_) {}

    // Null if it does not know.
    PageTable* Find(Gfn gfn) const {
      const uint64_t block = gfn.value() / kBlockFrames;
      if (block >= size_) [[unlikely]]
        return nullptr;
      // Acquire: the table is filled before it is named.
      return tables_[block].load(std::memory_order_acquire);
    }

   private:
    const std::atomic<PageTable*>* tables_;
    uint64_t size_;
  };
  PageTable* Find(Gfn gfn) const { return View(*this).Find(gfn); }
  // Whether the table of this block, which is linked, may be unlinked.
  bool MayUnlink(Gfn gfn, const PageTable* table) const {
    return gfn.value() / kBlockFrames >= size_ || Find(gfn) == table;
  }
  void Set(Gfn gfn, PageTable* table);
  void Clear(Gfn gfn);

  // Memory that the host holds for it.
  int64_t resident_bytes() const {
    // Relaxed: a statistic.
    return resident_pages_.load(std::memory_order_relaxed) *
           static_cast<int64_t>(kPageSize);
  }

 private:
  static constexpr uint64_t kBlockFrames = FramesPerEntry(PageLevel::k2M);
  static constexpr uint64_t kMaxBlocks = (uint64_t{1} << 32) / kBlockFrames;
  static constexpr uint64_t kTablesPerPage = kPageSize / sizeof(uint64_t);
  static constexpr uint64_t kMaxPages = kMaxBlocks / kTablesPerPage;

  LeafDirectory(std::atomic<PageTable*>* tables, uint64_t size)
      : tables_(tables), size_(size) {}

  std::atomic<PageTable*>* const tables_;
  const uint64_t size_;  // in blocks
  std::atomic<int64_t> resident_pages_{0};
  // Bit i: page i was written.
  std::array<std::atomic<uint64_t>, kMaxPages / 64> written_{};
};

}  // namespace tdp

#endif  // ENGINE_MMU_LEAF_DIRECTORY_H_
