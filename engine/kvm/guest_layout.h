// Where the daemon's own part of guest memory lies: the private memslot, above
// every frame that a user may give to a memslot.
//
// It starts at 1 << 46, or at half of what the host's CPU can address if that
// is less. Both lie in the lower canonical half, where a 4-level guest page
// table can map memory one to one.
//
//   offset     what
//   0          root of the identity map (PML4)
//   0x1000     GDT
//   0x2000     the touch program
//   0x10000    one page for each vCPU: parameters and counter of its program
//   0x100000   one stack for each vCPU
//   0x200000   lower levels of the identity map

#ifndef ENGINE_KVM_GUEST_LAYOUT_H_
#define ENGINE_KVM_GUEST_LAYOUT_H_

#include <algorithm>
#include <cstdint>

#include "engine/base/limits.h"
#include "engine/base/types.h"

namespace tdp {

inline constexpr int kHighestPrivateBit = 46;
inline constexpr uint64_t kPrivateBytes = uint64_t{64} << 20;
// Addresses below this one are canonical and positive.
inline constexpr uint64_t kCanonicalLowHalfEnd = uint64_t{1} << 47;

inline constexpr uint64_t kPageTableRootOffset = 0;
inline constexpr uint64_t kGdtOffset = 0x1000;
inline constexpr uint64_t kTouchProgramOffset = 0x2000;
inline constexpr uint64_t kTouchBlockOffset = 0x10000;
inline constexpr uint64_t kTouchBlockStride = kPageSize;
inline constexpr uint64_t kStackOffset = 0x100000;
inline constexpr uint64_t kStackBytes = 0x4000;
inline constexpr uint64_t kTablesOffset = 0x200000;

static_assert(kTouchBlockOffset + limits::kMaxVcpusPerVm * kTouchBlockStride <=
              kStackOffset);
static_assert(kStackOffset + limits::kMaxVcpusPerVm * kStackBytes <=
              kTablesOffset);
static_assert(kTablesOffset < kPrivateBytes);

// Where the private memslot starts on a host with `physical_address_bits`.
constexpr Gpa PrivateBase(int physical_address_bits) {
  return Gpa(
      uint64_t{1} << std::min(kHighestPrivateBit, physical_address_bits - 1));
}
// The highest frame that a user's memslot may hold.
constexpr Gfn MaxUserGfn(int physical_address_bits) {
  return GfnOf(PrivateBase(physical_address_bits)) - 1;
}

// An address that no memslot ever holds: the first one behind the private slot.
constexpr Gpa NeverBackedGpa(int physical_address_bits) {
  return PrivateBase(physical_address_bits) + kPrivateBytes;
}

// Selectors in the private GDT.
inline constexpr uint16_t kCodeSelector = 8;
inline constexpr uint16_t kDataSelector = 16;

}  // namespace tdp

#endif  // ENGINE_KVM_GUEST_LAYOUT_H_
