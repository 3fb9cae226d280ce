// MemslotTable: the memslots of a VM, by frame. Looking up is lock-free;
// changes publish a new array through RCU.
//
// How a memslot goes, step by step, because KVM and the page tables have a part
// in it: Memslot::CloseForMap(); zap its entries; take it out of KVM; Remove();
// drop the last reference. It moves likewise, with Move() in place of Remove()
// and Memslot::ReopenForMap() at the end.
//
// Invariants: no frame belongs to two memslots. A pinned memslot is neither
// destroyed nor moved. From Remove() on nobody gets a pin, and when it returns
// nobody has one.
//
// Thread safety: all methods, from any thread. The BLOCKING ones wait for a
// grace period and for pins: call them with no pin, no lock that a pin's holder
// may want, outside RCU.

#ifndef ENGINE_MEMORY_MEMSLOT_TABLE_H_
#define ENGINE_MEMORY_MEMSLOT_TABLE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/backing.h"
#include "engine/base/limits.h"
#include "engine/base/types.h"
#include "engine/memory/memslot.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu.h"

namespace tdp {

class MemslotTable final : public BackingTable {
 public:
  // `rcu` outlives the table.
  explicit MemslotTable(RcuDomain& rcu,
                        int64_t max_memslots = limits::kMaxMemslotsPerVm);
  MemslotTable(const MemslotTable&) = delete;
  MemslotTable& operator=(const MemslotTable&) = delete;
  // REQUIRES: no call is running and no pin is held.
  ~MemslotTable() override;

  // Whether Add() would take a memslot of this range: LIMIT_REACHED or
  // MEMSLOT_OVERLAP, which names both.
  absl::Status CheckAdd(absl::string_view name, GfnRange range) const;
  // Publishes the memslot. On an error nothing has changed.
  absl::Status Add(std::shared_ptr<Memslot> memslot);

  // Unpublishes the memslot and waits until nobody has a pin on it. BLOCKING.
  // REQUIRES: it is in the table and closed for map, and no table of entries
  // holds one of it.
  void Remove(const std::shared_ptr<Memslot>& memslot);

  // Whether Move() to this range would succeed.
  absl::Status CheckMove(const Memslot& memslot, Gfn base_gfn) const;
  // Moves the memslot to other frames, backing frames included. BLOCKING.
  // Afterwards it is still closed for map. On an error nothing has changed.
  // REQUIRES: as Remove().
  absl::Status Move(const std::shared_ptr<Memslot>& memslot, Gfn base_gfn,
                    Pfn base_pfn);

  // Null if no memslot holds the frame.
  std::shared_ptr<Memslot> Find(Gfn gfn) const;
  // By ascending first frame.
  std::vector<std::shared_ptr<Memslot>> Snapshot() const;

  // BackingTable. While a memslot moves, both kinds of pins are refused as
  // `changing`.
  PinResult Pin(Gfn gfn, PinMode mode) override;
  bool NextBacked(Gfn gfn, Gfn* next) override;

 private:
  struct Entry {
    GfnRange range;
    Memslot* memslot;
  };
  struct Array;

  // The first entry that ends behind `gfn`, or the end.
  static const Entry* FindEntry(const Array& array, Gfn gfn);
  absl::Status CheckOverlap(absl::string_view name, GfnRange range,
                            const Memslot* ignored) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckAddLocked(absl::string_view name, GfnRange range) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes what memslots_ says visible to readers and retires the old array.
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  RcuDomain& rcu_;
  const int64_t max_memslots_;
  // What readers see. Release on publication, acquire by readers.
  std::atomic<Array*> array_;

  // Held over whole changes, so that one ends before the next begins.
  Mutex change_mutex_;
  mutable Mutex mutex_ ABSL_ACQUIRED_AFTER(change_mutex_);
  // By ascending first frame.
  std::vector<std::shared_ptr<Memslot>> memslots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_MEMSLOT_TABLE_H_
