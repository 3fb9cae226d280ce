// Spte: the meaning of the 64 bits of a page-table entry, in EPT format.
//
// Layout (engine/doc/spte_layout.md; Linux arch/x86/kvm/mmu/spte.h for EPT):
//   0 R, 1 W, 2 X, 5:3 memory type, 6 ignore PAT, 7 page size, 8 A, 9 D,
//   11 MMU_PRESENT, 51:12 PFN, 57 HOST_WRITABLE, 58 MMU_WRITABLE,
//   63 SUPPRESS_VE.
//
// An entry is exactly one of: non-present (SUPPRESS_VE alone), frozen (one
// thread owns it and is in the middle of a change), a present leaf, or a
// present pointer to a table.
//
// Thread safety: a value. Locations are SptePtr (page_table.h).
//
// Invariants of a present leaf (CheckLeafInvariants() runs them as code):
//   If W is set, MMU_WRITABLE is set. If MMU_WRITABLE is set, HOST_WRITABLE is.
//   If W is set, D is set: both are set together.
//   If W, MMU_WRITABLE or A is set, R is: what has no access grants nothing and
//   is not mapped by the host.
//   A leaf without R grants nothing. X is set wherever R is: a fetch arrives
//   as a read and cannot be told apart.

#ifndef ENGINE_PAGING_SPTE_H_
#define ENGINE_PAGING_SPTE_H_

#include <cstdint>

#include "engine/base/types.h"

namespace tdp {

class Spte {
 public:
  // What a leaf is made of.
  struct LeafFields {
    Pfn pfn;
    bool writable = false;       // W and D: the guest may write now
    bool mmu_writable = false;   // the MMU grants a write once it is noticed
    bool host_writable = false;  // the memslot allows writes
    bool accessed = true;        // A: the host maps the frame
  };

  constexpr Spte() : raw_(kNonPresentValue) {}
  static constexpr Spte FromRaw(uint64_t raw) { return Spte(raw); }
  static constexpr Spte NonPresent() { return Spte(kNonPresentValue); }
  static constexpr Spte Frozen() { return Spte(kFrozenValue); }
  static constexpr Spte MakeLeaf(const LeafFields& fields, PageLevel level) {
    uint64_t raw = kMmuPresent | kSuppressVe | kRead | kExecute |
                   (kMemtypeWriteBack << kMemtypeShift) | kIgnorePat |
                   (fields.pfn.value() << kPageShift);
    if (level > PageLevel::k4K) raw |= kHugePage;
    if (fields.accessed) raw |= kAccessed;
    if (fields.host_writable) raw |= kHostWritable;
    if (fields.mmu_writable) raw |= kMmuWritable;
    if (fields.writable) raw |= kWrite | kDirty;
    return Spte(raw);
  }
  // `table_address` is the address of a page from the pool.
  static constexpr Spte MakeTable(uint64_t table_address) {
    return Spte(kMmuPresent | kSuppressVe | kRead | kWrite | kExecute |
                kAccessed | table_address);
  }

  constexpr uint64_t raw() const { return raw_; }

  // Present: a leaf or a pointer to a table.
  constexpr bool IsPresent() const { return (raw_ & kMmuPresent) != 0; }
  constexpr bool IsFrozen() const { return raw_ == kFrozenValue; }
  constexpr bool IsNonPresent() const { return raw_ == kNonPresentValue; }
  constexpr bool IsLeaf(PageLevel level) const {
    return IsPresent() && (level == PageLevel::k4K || (raw_ & kHugePage) != 0);
  }
  constexpr bool IsTable(PageLevel level) const {
    return IsPresent() && !IsLeaf(level);
  }
  constexpr bool IsHuge(PageLevel level) const {
    return level > PageLevel::k4K && IsLeaf(level);
  }

  constexpr bool IsReadable() const { return (raw_ & kRead) != 0; }
  constexpr bool IsWritable() const { return (raw_ & kWrite) != 0; }
  constexpr bool IsAccessed() const { return (raw_ & kAccessed) != 0; }
  constexpr bool IsDirty() const { return (raw_ & kDirty) != 0; }
  constexpr bool IsHostWritable() const { return (raw_ & kHostWritable) != 0; }
  constexpr bool IsMmuWritable() const { return (raw_ & kMmuWritable) != 0; }
  constexpr Access access() const { return {IsReadable(), IsWritable()}; }

  // The frame of a leaf. A table's is its address: see table_address().
  constexpr Pfn pfn() const { return Pfn((raw_ & kPfnMask) >> kPageShift); }
  constexpr uint64_t table_address() const { return raw_ & kPfnMask; }

  // Whether a guest access needs nothing more than what the host maps for this
  // present leaf.
  constexpr bool Permits(Access access) const {
    return IsAccessed() && IsReadable() && (!access.write || IsWritable());
  }
  // The host has the frame mapped, as far as the tables know.
  constexpr bool IsHostMapped() const { return IsAccessed() && IsReadable(); }

  // The leaf after a write was granted. REQUIRES: IsMmuWritable().
  constexpr Spte WithWrite() const {
    return Spte(raw_ | kWrite | kDirty | kAccessed);
  }
  constexpr Spte WithAccessed() const { return Spte(raw_ | kAccessed); }
  // Grants stay as they are; the host no longer maps the frame.
  constexpr Spte WithoutAccessed() const { return Spte(raw_ & ~kAccessed); }
  // The next write faults, and is granted if MMU_WRITABLE stands.
  constexpr Spte WithoutWrite() const { return Spte(raw_ & ~kWrite); }
  // The leaf under the most that is granted now: less at once, more at the next
  // fault. Without any access it keeps its frame, which the host does not map.
  constexpr Spte WithLimit(Access limit) const {
    if (!limit.read) {
      return Spte(raw_ &
                  ~(kRead | kWrite | kExecute | kAccessed | kMmuWritable));
    }
    const uint64_t readable = raw_ | kRead | kExecute;
    if (!limit.write) return Spte(readable & ~(kWrite | kMmuWritable));
    return Spte(IsHostWritable() ? readable | kMmuWritable : readable);
  }

  // The same 4K leaf of the frame behind.
  constexpr Spte OfNextFrame() const { return Spte(raw_ + kPageSize); }

  // The `index`-th of the 512 leaves that together equal this huge leaf of
  // `level`. REQUIRES: IsHuge(level).
  constexpr Spte ChildOfHuge(PageLevel level, int index) const {
    const PageLevel child = ChildLevel(level);
    uint64_t raw =
        raw_ +
        ((static_cast<uint64_t>(index) * FramesPerEntry(child)) << kPageShift);
    if (child == PageLevel::k4K) raw &= ~kHugePage;
    return Spte(raw);
  }

  // The leaf of `level` that 512 leaves starting with this one, all of the same
  // access and of consecutive frames, equal together; accessed or dirty if one
  // of them is. REQUIRES: a leaf of the level below whose frame is aligned.
  constexpr Spte HugeOfChildren(PageLevel level, bool accessed,
                                bool dirty) const {
    uint64_t raw = raw_ & ~(kAccessed | kDirty);
    if (ChildLevel(level) == PageLevel::k4K) raw |= kHugePage;
    if (accessed) raw |= kAccessed;
    if (dirty) raw |= kDirty;
    return Spte(raw);
  }
  // Whether two leaves of one level differ in their frames, A and D at most.
  constexpr bool SameButForFrame(Spte other) const {
    constexpr uint64_t kIgnored = kPfnMask | kAccessed | kDirty;
    return (raw_ & ~kIgnored) == (other.raw_ & ~kIgnored);
  }

  // The implications above, for a present leaf.
  constexpr bool CheckLeafInvariants() const {
    return (!IsWritable() || IsMmuWritable()) &&
           (!IsMmuWritable() || IsHostWritable()) &&
           (!IsWritable() || IsDirty()) && (!IsWritable() || IsReadable()) &&
           (!IsMmuWritable() || IsReadable()) &&
           (!IsAccessed() || IsReadable());
  }

  friend constexpr bool operator==(Spte, Spte) = default;

 private:
  constexpr explicit Spte(uint64_t raw) : raw_(raw) {}

  static constexpr uint64_t kRead = uint64_t{1} << 0;
  static constexpr uint64_t kWrite = uint64_t{1} << 1;
  static constexpr uint64_t kExecute = uint64_t{1} << 2;
  static constexpr int kMemtypeShift = 3;
  static constexpr uint64_t kMemtypeMask = uint64_t{7} << kMemtypeShift;
  static constexpr uint64_t kMemtypeWriteBack = 6;
  static constexpr uint64_t kIgnorePat = uint64_t{1} << 6;
  static constexpr uint64_t kHugePage = uint64_t{1} << 7;
  static constexpr uint64_t kAccessed = uint64_t{1} << 8;
  static constexpr uint64_t kDirty = uint64_t{1} << 9;
  static constexpr uint64_t kMmuPresent = uint64_t{1} << 11;
  static constexpr uint64_t kPfnMask =
      ((uint64_t{1} << 52) - 1) & ~(kPageSize - 1);
  static constexpr uint64_t kHostWritable = uint64_t{1} << 57;
  static constexpr uint64_t kMmuWritable = uint64_t{1} << 58;
  static constexpr uint64_t kSuppressVe = uint64_t{1} << 63;

  // Not zero: hardware of this format would raise #VE for a clear bit 63.
  static constexpr uint64_t kNonPresentValue = kSuppressVe;
  // No R, W, X, no PFN and not present, and distinct from every other class.
  static constexpr uint64_t kFrozenValue = kSuppressVe | 0x5a0;

  // Hardware bits, each beside its neighbour.
  static_assert((kRead | kWrite | kExecute) == 0x7);
  static_assert((kMemtypeMask & (kRead | kWrite | kExecute)) == 0);
  static_assert((kMemtypeMask & kIgnorePat) == 0);
  static_assert((kMemtypeWriteBack << kMemtypeShift & ~kMemtypeMask) == 0);
  static_assert(kIgnorePat << 1 == kHugePage);
  static_assert(kHugePage << 1 == kAccessed);
  static_assert(kAccessed << 1 == kDirty);
  static_assert(kDirty << 2 == kMmuPresent);
  static_assert((kMmuPresent & kPfnMask) == 0);
  static_assert((kPfnMask & (kPageSize - 1)) == 0);
  // Software bits lie above the PFN and below SUPPRESS_VE.
  static_assert((kPfnMask & (kHostWritable | kMmuWritable)) == 0);
  static_assert(kHostWritable << 1 == kMmuWritable);
  static_assert(kMmuWritable < kSuppressVe);
  // The two non-present values are distinct, and no present entry equals one.
  static_assert(kNonPresentValue != kFrozenValue);
  static_assert(kNonPresentValue != 0 && kFrozenValue != 0);
  static_assert(((kNonPresentValue | kFrozenValue) & kMmuPresent) == 0);
  static_assert((kFrozenValue & (kRead | kWrite | kExecute | kPfnMask)) == 0);

  uint64_t raw_;
};

static_assert(sizeof(Spte) == 8);

}  // namespace tdp

#endif  // ENGINE_PAGING_SPTE_H_
