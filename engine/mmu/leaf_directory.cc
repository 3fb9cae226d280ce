#include "engine/mmu/leaf_directory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/errors.h"

namespace tdp {

absl::StatusOr<std::unique_ptr<LeafDirectory>> LeafDirectory::Create(
    uint64_t frames) {
  const uint64_t size = std::min(frames / kBlockFrames, kMaxBlocks);
  const uint64_t bytes = size * sizeof(PageTable*);
  void* tables = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (tables == MAP_FAILED) {
    return MakeError(ErrorReason::kHostMemoryExhausted,
                     "the host has no address space left for page tables; free "
                     "memory or stop a VM");
  }
  // A huge page would back what names nothing. Refused where the host has none.
  (void)madvise(tables, bytes, MADV_NOHUGEPAGE);
  return std::unique_ptr<LeafDirectory>(
      new LeafDirectory(static_cast<std::atomic<PageTable*>*>(tables), size));
}

LeafDirectory::~LeafDirectory() { munmap(tables_, size_ * sizeof(PageTable*)); }

void LeafDirectory::Retire(RcuDomain& rcu, LeafDirectory* directory) {
  struct Retired {
    RcuHead rcu;
    std::unique_ptr<LeafDirectory> directory;
  };
  auto* retired = new Retired{
      .rcu = {}, .directory = std::unique_ptr<LeafDirectory>(directory)};
  rcu.Retire(&retired->rcu, directory->resident_bytes(),
             [](RcuHead* head) { delete reinterpret_cast<Retired*>(head); });
}

void LeafDirectory::Set(Gfn gfn, PageTable* table) {
  const uint64_t block = gfn.value() / kBlockFrames;
  if (block >= size_) return;
  const uint64_t page = block / kTablesPerPage;
  const uint64_t bit = uint64_t{1} << (page % 64);
  // Relaxed: a statistic.
  std::atomic<uint64_t>& word = written_[page / 64];
  if ((word.load(std::memory_order_relaxed) & bit) == 0 &&
      (word.fetch_or(bit, std::memory_order_relaxed) & bit) == 0) {
    resident_pages_.fetch_add(1, std::memory_order_relaxed);
  }
  // Release: see Find().
  tables_[block].store(table, std::memory_order_release);
}

void LeafDirectory::Clear(Gfn gfn) {
  const uint64_t block = gfn.value() / kBlockFrames;
  if (block >= size_) return;
  // Release: who links the next table, after the parent entry got its final
  // value, sets the element after this.
  tables_[block].store(nullptr, std::memory_order_release);
}

}  // namespace tdp
