// Bits of the x86 control registers that starting a guest needs.

#ifndef ENGINE_KVM_X86_H_
#define ENGINE_KVM_X86_H_

#include <cstdint>

namespace tdp::x86 {

inline constexpr uint64_t kRflagsReserved = 2;  // always one

inline constexpr uint64_t kCr0Pe = uint64_t{1} << 0;
inline constexpr uint64_t kCr0Mp = uint64_t{1} << 1;
inline constexpr uint64_t kCr0Et = uint64_t{1} << 4;
inline constexpr uint64_t kCr0Ne = uint64_t{1} << 5;
inline constexpr uint64_t kCr0Wp = uint64_t{1} << 16;
inline constexpr uint64_t kCr0Pg = uint64_t{1} << 31;
inline constexpr uint64_t kCr4Pae = uint64_t{1} << 5;
inline constexpr uint64_t kCr4Osfxsr = uint64_t{1} << 9;
inline constexpr uint64_t kCr4Osxmmexcpt = uint64_t{1} << 10;
inline constexpr uint64_t kEferLme = uint64_t{1} << 8;
inline constexpr uint64_t kEferLma = uint64_t{1} << 10;

}  // namespace tdp::x86

#endif  // ENGINE_KVM_X86_H_
