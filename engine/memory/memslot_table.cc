#include "engine/memory/memslot_table.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

bool StartsEarlier(const std::shared_ptr<Memslot>& a,
                   const std::shared_ptr<Memslot>& b) {
  return a->range().start < b->range().start;
}

std::string TextOf(GfnRange range) {
  return absl::StrCat("[", Hex(range.start.value()), ", ",
                      Hex(range.end.value()), ")");
}

absl::Status OverlapError(absl::string_view name, GfnRange range,
                          const Memslot& other) {
  return MakeError(ErrorReason::kMemslotOverlap,
                   absl::StrCat("memslot \"", name, "\" at frames ",
                                TextOf(range), " overlaps memslot \"",
                                other.name(), "\" at ", TextOf(other.range()),
                                "; choose another base_gfn or frame_count"),
                   {{"memslot", std::string(name)},
                    {"startGfn", Hex(range.start.value())},
                    {"endGfn", Hex(range.end.value())},
                    {"otherMemslot", other.name()},
                    {"otherStartGfn", Hex(other.range().start.value())},
                    {"otherEndGfn", Hex(other.range().end.value())}});
}

}  // namespace

// Immutable once published.
struct MemslotTable::Array {
  // First, so that a pointer to it is one to the array.
  RcuHead head;
  std::vector<Entry> entries;

  static void Reclaim(RcuHead* head) { delete reinterpret_cast<Array*>(head); }
};

MemslotTable::MemslotTable(RcuDomain& rcu, int64_t max_memslots)
    : rcu_(rcu), max_memslots_(max_memslots), array_(new Array) {}

MemslotTable::~MemslotTable() {
  delete array_.load(std::memory_order_relaxed);  // nobody else is here
}

absl::Status MemslotTable::CheckAdd(absl::string_view name,
                                    GfnRange range) const {
  MutexLock lock(mutex_);
  return CheckAddLocked(name, range);
}

absl::Status MemslotTable::CheckAddLocked(absl::string_view name,
                                          GfnRange range) const {
  if (static_cast<int64_t>(memslots_.size()) >= max_memslots_) {
    return LimitError("max_memslots", max_memslots_,
                      "delete a memslot of the VM first");
  }
  return CheckOverlap(name, range, nullptr);
}

absl::Status MemslotTable::CheckOverlap(absl::string_view name, GfnRange range,
                                        const Memslot* ignored) const {
  for (const std::shared_ptr<Memslot>& other : memslots_) {
    if (other.get() != ignored && other->range().Overlaps(range)) {
      return OverlapError(name, range, *other);
    }
  }
  return absl::OkStatus();
}

absl::Status MemslotTable::Add(std::shared_ptr<Memslot> memslot) {
  MutexLock change(change_mutex_);
  MutexLock lock(mutex_);
  const absl::Status status = CheckAddLocked(memslot->name(), memslot->range());
  if (!status.ok()) return status;
  memslots_.insert(std::upper_bound(memslots_.begin(), memslots_.end(), memslot,
                                    StartsEarlier),
                   memslot);
  Publish();
  return absl::OkStatus();
}

void MemslotTable::Remove(const std::shared_ptr<Memslot>& memslot) {
  assert(memslot->closed_for_map());
  MutexLock change(change_mutex_);
  {
    MutexLock lock(mutex_);
    const auto found = std::find(memslots_.begin(), memslots_.end(), memslot);
    assert(found != memslots_.end());
    memslots_.erase(found);
    Publish();
  }
  // Whoever found the memslot in the old array has its pin after this, or has
  // given up.
  rcu_.Synchronize();
  memslot->CloseForUnmap();
}

absl::Status MemslotTable::CheckMove(const Memslot& memslot,
                                     Gfn base_gfn) const {
  MutexLock lock(mutex_);
  return CheckOverlap(memslot.name(),
                      {base_gfn, base_gfn + memslot.range().size()}, &memslot);
}

absl::Status MemslotTable::Move(const std::shared_ptr<Memslot>& memslot,
                                Gfn base_gfn, Pfn base_pfn) {
  assert(memslot->closed_for_map());
  MutexLock change(change_mutex_);
  const absl::Status status = CheckMove(*memslot, base_gfn);
  if (!status.ok()) return status;
  memslot->CloseForUnmap();
  {
    MutexLock lock(mutex_);
    memslot->Rebase(base_gfn, base_pfn);
    std::sort(memslots_.begin(), memslots_.end(), StartsEarlier);
    Publish();
  }
  // A reader of the old array could otherwise pin the memslot for a frame that
  // it no longer holds.
  rcu_.Synchronize();
  memslot->ReopenForUnmap();
  return absl::OkStatus();
}

void MemslotTable::Publish() {
  Array* const next = new Array;
  next->entries.reserve(memslots_.size());
  for (const std::shared_ptr<Memslot>& memslot : memslots_) {
    next->entries.push_back({memslot->range(), memslot.get()});
  }
  Array* const old = array_.exchange(next, std::memory_order_acq_rel);
  const int64_t bytes = static_cast<int64_t>(
      sizeof(Array) + old->entries.capacity() * sizeof(Entry));
  rcu_.Retire(&old->head, bytes, &Array::Reclaim);
}

std::shared_ptr<Memslot> MemslotTable::Find(Gfn gfn) const {
  MutexLock lock(mutex_);
  for (const std::shared_ptr<Memslot>& memslot : memslots_) {
    if (memslot->range().Contains(gfn)) return memslot;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Memslot>> MemslotTable::Snapshot() const {
  MutexLock lock(mutex_);
  return memslots_;
}

const MemslotTable::Entry* MemslotTable::FindEntry(const Array& array,
                                                   Gfn gfn) {
  const Entry* const begin = array.entries.data();
  const Entry* const end = begin + array.entries.size();
  return std::upper_bound(begin, end, gfn, [](Gfn value, const Entry& entry) {
    return value < entry.range.end;
  });
}

PinResult MemslotTable::Pin(Gfn gfn, PinMode mode) {
  RcuReadGuard guard(rcu_);
  const Array& array = *array_.load(std::memory_order_acquire);
  const Entry* const entry = FindEntry(array, gfn);
  PinResult result;
  if (entry == array.entries.data() + array.entries.size() ||
      !entry->range.Contains(gfn)) {
    return result;
  }
  if (entry->memslot->TryPin(mode)) {
    result.pin = BackingPin(entry->memslot, mode == PinMode::kMap);
  } else {
    result.changing = true;
  }
  return result;
}

bool MemslotTable::NextBacked(Gfn gfn, Gfn* next) {
  RcuReadGuard guard(rcu_);
  const Array& array = *array_.load(std::memory_order_acquire);
  const Entry* const entry = FindEntry(array, gfn);
  if (entry == array.entries.data() + array.entries.size()) return false;
  *next = std::max(gfn, entry->range.start);
  return true;
}

}  // namespace tdp
