// CPUID tables as KVM takes and gives them: a header, then the entries.
//
// linux/kvm.h declares this as kvm_cpuid2 with a macro that gives the struct
// another size in C++ than in C, and with it the two requests another number.
// Here is what the kernel means.
//
// Thread safety: values.

#ifndef ENGINE_KVM_KVM_CPUID_H_
#define ENGINE_KVM_KVM_CPUID_H_

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace tdp {

using KvmCpuid = std::vector<kvm_cpuid_entry2>;

struct KvmCpuidHeader {
  uint32_t entry_count = 0;
  uint32_t padding = 0;
};
static_assert(sizeof(KvmCpuidHeader) == 8);

inline constexpr uint64_t kKvmGetSupportedCpuid =
    _IOWR(KVMIO, 0x05, KvmCpuidHeader);
inline constexpr uint64_t kKvmSetCpuid2 = _IOW(KVMIO, 0x90, KvmCpuidHeader);

// The argument of a request that has these entries.
inline std::vector<uint8_t> PackCpuid(const KvmCpuid& entries) {
  const KvmCpuidHeader header = {static_cast<uint32_t>(entries.size()), 0};
  const size_t bytes = entries.size() * sizeof(kvm_cpuid_entry2);
  std::vector<uint8_t> packed(sizeof header + bytes);
  memcpy(packed.data(), &header, sizeof header);
  if (bytes > 0) memcpy(packed.data() + sizeof header, entries.data(), bytes);
  return packed;
}

// The entries of an argument that the kernel filled in.
inline KvmCpuid UnpackCpuid(const uint8_t* packed) {
  KvmCpuidHeader header;
  memcpy(&header, packed, sizeof header);
  KvmCpuid entries(header.entry_count);
  const size_t bytes = entries.size() * sizeof(kvm_cpuid_entry2);
  if (bytes > 0) memcpy(entries.data(), packed + sizeof header, bytes);
  return entries;
}

}  // namespace tdp

#endif  // ENGINE_KVM_KVM_CPUID_H_
