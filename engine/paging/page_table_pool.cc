#include "engine/paging/page_table_pool.h"

#include <sys/mman.h>

#include <cassert>
#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/test_hooks.h"

namespace tdp {
namespace {

constexpr uint64_t kChunkBytes = uint64_t{2} << 20;
constexpr uint64_t kPagesPerChunk = kChunkBytes / kPageSize;
constexpr uint64_t kHeaderBytes = 64;
constexpr uint64_t kHeaderPages = kPagesPerChunk * kHeaderBytes / kPageSize;
static_assert(sizeof(PageTableHeader) <= kHeaderBytes);
// Grace periods that one allocation waits for at most, while others take the
// tables that come back.
constexpr int kMaxWaits = 64;

// Maps a naturally aligned chunk, or returns null. In huge pages a walk of many
// tables finds them without a walk of the host's.
void* MapChunk(bool in_huge_pages) {
  void* area = mmap(nullptr, 2 * kChunkBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return nullptr;
  const uint64_t start = reinterpret_cast<uint64_t>(area);
  const uint64_t chunk = (start + kChunkBytes - 1) & ~(kChunkBytes - 1);
  if (chunk != start) munmap(area, chunk - start);
  const uint64_t tail = start + 2 * kChunkBytes - (chunk + kChunkBytes);
  if (tail != 0) munmap(reinterpret_cast<void*>(chunk + kChunkBytes), tail);
  // Only advice: the host may have none.
  (void)madvise(reinterpret_cast<void*>(chunk), kChunkBytes,
                in_huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return reinterpret_cast<void*>(chunk);
}

// Which tables of a chunk the host has given memory for: a bit each, in the
// place of the header that the first page, itself full of headers, never needs.
class TouchedBits {
 public:
  explicit TouchedBits(const PageTable* table)
      : word_(WordOf(table)),
        mask_(uint64_t{1} << (IndexOf(table) % kBitsPerWord)) {}

  bool IsSet() const { return (word_ & mask_) != 0; }
  void Set() { word_ |= mask_; }
  void Clear() { word_ &= ~mask_; }

 private:
  static constexpr uint64_t kBitsPerWord = 64;
  static_assert(kPagesPerChunk / 8 <= kHeaderBytes);

  static uint64_t IndexOf(const PageTable* table) {
    return reinterpret_cast<uint64_t>(table) % kChunkBytes / kPageSize;
  }
  static uint64_t& WordOf(const PageTable* table) {
    const uint64_t address = reinterpret_cast<uint64_t>(table);
    auto* words = reinterpret_cast<uint64_t*>(address - address % kChunkBytes);
    return words[IndexOf(table) / kBitsPerWord];
  }

  uint64_t& word_;
  const uint64_t mask_;
};

}  // namespace

PageTablePool::PageTablePool(RcuDomain& rcu, int64_t limit_bytes,
                             PageTableBudget* budget)
    : rcu_(rcu), limit_bytes_(limit_bytes), budget_(budget) {
  if (budget_ != nullptr) budget_->AddPool(this);
}

PageTablePool::~PageTablePool() {
  rcu_.Barrier();
  assert(used_count() == 0);
  if (budget_ != nullptr) {
    budget_->RemovePool(this);
    GiveBackFree();
  }
  for (void* chunk : chunks_) munmap(chunk, kChunkBytes);
}

PageTableHeader& PageTablePool::HeaderOf(const PageTable* table) {
  const uint64_t address = reinterpret_cast<uint64_t>(table);
  const uint64_t chunk = address & ~(kChunkBytes - 1);
  const uint64_t index = (address - chunk) / kPageSize;
  return *reinterpret_cast<PageTableHeader*>(chunk + index * kHeaderBytes);
}

absl::Status PageTablePool::Allocate(PageTable** table) {
  for (int waits = 0;; ++waits) {
    // Retired tables count against the limit: it is reached only if it is once
    // they are back. Others may take what comes back, so one wait is not
    // always enough.
    const bool some_retired = retired_count() != 0;
    const Outcome outcome = TryAllocate(Limit::kEnforced, table);
    if (outcome == Outcome::kDone) return absl::OkStatus();
    if (waits == kMaxWaits) return ErrorOf(outcome);
    if (outcome == Outcome::kBudgetSpent && budget_->Reclaim()) continue;
    if (!some_retired && retired_count() == 0) return ErrorOf(outcome);
    rcu_.Barrier();
  }
}

absl::Status PageTablePool::AllocateExempt(PageTable** table) {
  const Outcome outcome = TryAllocate(Limit::kIgnored, table);
  return outcome == Outcome::kDone ? absl::OkStatus() : ErrorOf(outcome);
}

absl::Status PageTablePool::ErrorOf(Outcome outcome) const {
  switch (outcome) {
    case Outcome::kLimitReached:
      return MakeError(
          ErrorReason::kPageTableLimit,
          absl::StrCat("page tables hold ", limit_bytes_,
                       " bytes, the limit of the VM; zap what is no longer "
                       "needed with ZapAll, or create the VM with a larger "
                       "page_table_limit_bytes"),
          {{"limit", "page_table_limit_bytes"},
           {"pageTableLimitBytes", absl::StrCat(limit_bytes_)}});
    case Outcome::kBudgetSpent:
      return MakeError(
          ErrorReason::kPageTableLimit,
          absl::StrCat("the page tables of all VMs hold ",
                       budget_->limit_bytes(),
                       " bytes, the limit max_page_table_bytes; zap what is "
                       "no longer needed with ZapAll, delete a VM, or start "
                       "the daemon with a larger --max_page_table_bytes"),
          {{"limit", "max_page_table_bytes"},
           {"pageTableLimitBytes", absl::StrCat(budget_->limit_bytes())}});
    case Outcome::kDone:
    case Outcome::kNoHostMemory:
      break;
  }
  return MakeError(ErrorReason::kHostMemoryExhausted,
                   "the host has no memory left for page tables; free "
                   "memory or stop a VM");
}

PageTablePool::Outcome PageTablePool::TryAllocate(Limit limit,
                                                  PageTable** table) {
  test_hooks::BeforeStep(TestStep::kAllocateTable, this);
  const TestAllocation asked = test_hooks::AskAllocation();
  const int64_t limit_count =
      asked == TestAllocation::kLimitReached ? 0 : max_count();
  // Relaxed: only the number matters; the tables change hands under mutex_. It
  // is raised only below the limit, or it would refuse others for a moment.
  int64_t used = used_count_.load(std::memory_order_relaxed);
  while ((used < limit_count || limit == Limit::kIgnored) &&
         !used_count_.compare_exchange_weak(used, used + 1,
                                            std::memory_order_relaxed)) {
  }
  if (used >= limit_count && limit == Limit::kEnforced) {
    return Outcome::kLimitReached;
  }
  const Outcome outcome =
      TakeFree(limit, asked != TestAllocation::kNoHostMemory, table);
  if (outcome != Outcome::kDone) GiveUpOne();
  return outcome;
}

PageTablePool::Outcome PageTablePool::TakeFree(Limit limit, bool host_gives,
                                               PageTable** table) {
  MutexLock lock(mutex_);
  if (free_tables_.empty() || !host_gives) {
    // A small VM uses a part of its only chunk, and pays for that part.
    const bool in_huge_pages = !chunks_.empty();
    void* chunk = host_gives ? MapChunk(in_huge_pages) : nullptr;
    if (chunk == nullptr) return Outcome::kNoHostMemory;
    chunks_.push_back(chunk);
    auto* pages = static_cast<PageTable*>(chunk);
    free_tables_.reserve(chunks_.size() * kPagesPerChunk);
    for (uint64_t i = kPagesPerChunk; i-- > kHeaderPages;) {
      free_tables_.push_back(&pages[i]);
    }
  }
  *table = PopFree(limit);
  if (*table == nullptr) return Outcome::kBudgetSpent;
  new (&HeaderOf(*table)) PageTableHeader{.rcu = {}, .pool = this};
  for (std::atomic<uint64_t>& entry : (*table)->entries) {
    // Relaxed: the table is private until it is linked with release.
    entry.store(Spte::NonPresent().raw(), std::memory_order_relaxed);
  }
  return Outcome::kDone;
}

PageTable* PageTablePool::PopFree(Limit limit) {
  PageTable* table = free_tables_.back();
  if (budget_ != nullptr) {
    TouchedBits touched(table);
    if (touched.IsSet()) {
      budget_->AddIdle(-1);
    } else if (limit == Limit::kIgnored) {
      budget_->TakeExempt();
    } else if (!budget_->TryTake()) {
      return nullptr;
    }
    touched.Set();
  }
  free_tables_.pop_back();
  return table;
}

int64_t PageTablePool::GiveBackFree() {
  MutexLock lock(mutex_);
  int64_t count = 0;
  for (PageTable* table : free_tables_) {
    TouchedBits touched(table);
    if (!touched.IsSet()) continue;
    // Anonymous memory: the next use finds zeros, as the first did.
    if (madvise(table, kPageSize, MADV_DONTNEED) != 0) continue;
    touched.Clear();
    ++count;
  }
  // In this order: nobody is to see less room in between.
  budget_->Give(count);
  budget_->AddIdle(-count);
  return count;
}

void PageTablePool::Free(PageTable* table) { Recycle(table); }

void PageTablePool::Retire(PageTable* table) {
  retired_count_.fetch_add(1, std::memory_order_relaxed);
  rcu_.Retire(&HeaderOf(table).rcu, sizeof(PageTable), &Reclaim);
}

void PageTablePool::Reclaim(RcuHead* head) {
  static_assert(offsetof(PageTableHeader, rcu) == 0);
  auto* header = reinterpret_cast<PageTableHeader*>(head);
  const uint64_t address = reinterpret_cast<uint64_t>(header);
  const uint64_t chunk = address & ~(kChunkBytes - 1);
  const uint64_t index = (address - chunk) / kHeaderBytes;
  PageTablePool* pool = header->pool;
  pool->Recycle(reinterpret_cast<PageTable*>(chunk + index * kPageSize));
  // Last: who sees no retired table sees none in the count of used ones.
  pool->retired_count_.fetch_sub(1, std::memory_order_release);
}

void PageTablePool::Recycle(PageTable* table) {
  {
    MutexLock lock(mutex_);
    if constexpr (test_hooks::kEnabled) {
      // Whoever comes too late must see it: reused as late as possible.
      for (std::atomic<uint64_t>& entry : table->entries) {
        entry.store(test_hooks::kReclaimedEntry, std::memory_order_relaxed);
      }
      free_tables_.insert(free_tables_.begin(), table);
    } else {
      free_tables_.push_back(table);
    }
    if (budget_ != nullptr) budget_->AddIdle(1);
  }
  GiveUpOne();
}

void PageTablePool::GiveUpOne() {
  used_count_.fetch_sub(1, std::memory_order_seq_cst);
  if (budget_ != nullptr) budget_->NoteRoom();
}

bool PageTablePool::HasRoom(int64_t count) const {
  return used_count_.load(std::memory_order_seq_cst) + count <= max_count() &&
         budget_->room() >= count;
}

bool PageTablePool::AwaitRoom(int64_t count) {
  if (budget_ == nullptr) return false;
  // Counted first: who finds that another one waits relies on its count.
  budget_->awaiting_pool_count_.fetch_add(1, std::memory_order_seq_cst);
  if (room_wanted_.exchange(count, std::memory_order_seq_cst) != 0) {
    budget_->awaiting_pool_count_.fetch_sub(1, std::memory_order_seq_cst);
  }
  return HasRoom(count);
}

void PageTablePool::StopAwaitingRoom() {
  if (budget_ != nullptr) budget_->StopAwaiting(this);
}

void PageTablePool::SetRoomListener(std::function<void()> on_room) {
  if (budget_ != nullptr) budget_->SetRoomListener(this, std::move(on_room));
}

PageTableCache::~PageTableCache() {
  for (PageTable* table : tables_) pool_.Free(table);
}

absl::Status PageTableCache::TopUp(int count) {
  while (size() < count) {
    PageTable* table = nullptr;
    if (absl::Status status = pool_.Allocate(&table); !status.ok()) {
      return status;
    }
    tables_.push_back(table);
  }
  return absl::OkStatus();
}

absl::Status PageTableCache::TopUpExempt(int count) {
  while (size() < count) {
    PageTable* table = nullptr;
    if (absl::Status status = pool_.AllocateExempt(&table); !status.ok()) {
      return status;
    }
    tables_.push_back(table);
  }
  return absl::OkStatus();
}

PageTable* PageTableCache::Take() {
  assert(!tables_.empty());
  PageTable* table = tables_.back();
  tables_.pop_back();
  return table;
}

void PageTableCache::Return(PageTable* table) { tables_.push_back(table); }

}  // namespace tdp
