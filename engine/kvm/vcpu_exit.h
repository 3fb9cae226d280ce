// Why KVM_RUN returned, as a plain value.
//
// Thread safety: values.

#ifndef ENGINE_KVM_VCPU_EXIT_H_
#define ENGINE_KVM_VCPU_EXIT_H_

#include <linux/kvm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "engine/base/types.h"

namespace tdp {

struct VcpuExit {
  enum class Kind {
    kHlt,
    kIo,
    kMmio,
    kShutdown,
    kInternalError,
    kFailEntry,
    // KVM_RUN was ended by a kick or another signal: EINTR or EAGAIN.
    kInterrupted,
    // The host refused an access to the window: EFAULT. The access was not
    // made; the instruction starts again at the next Run().
    kFault,
    // The same, where KVM says which guest address it was (`memory_fault`).
    kMemoryFault,
    // KVM_RUN failed with `error`: the vCPU cannot go on.
    kRunFailed,
    // Any other reason; `name` has it.
    kOther,
  };

  // Port access. `data` lies in the vCPU's shared page and holds count * size
  // bytes until the next Run(): what the guest wrote, or, for a read, where
  // the answer goes.
  struct Io {
    uint16_t port = 0;
    uint32_t size = 0;  // of one access: 1, 2 or 4
    uint32_t count = 0;
    bool is_write = false;
    absl::Span<uint8_t> data;
  };

  // Access to guest memory that KVM could not make itself: no memslot is
  // there, or the host refused it. A write is lost unless the caller makes it;
  // a read is answered with KvmVcpu::CompleteMmioRead(). An access of more than
  // 8 bytes, or across a page's end, comes in several exits.
  struct Mmio {
    Gpa gpa;
    std::array<uint8_t, 8> data = {};  // what the guest wrote
    uint32_t size = 0;
    bool is_write = false;
  };

  struct MemoryFault {
    Gpa gpa;
    uint64_t size = 0;
  };

  Kind kind = Kind::kOther;
  // As in the KVM API, without its prefix: "HLT", "INTERNAL_ERROR". For a
  // failed KVM_RUN the errno: "EINTR", "EFAULT".
  std::string name;
  int error = 0;  // errno of a failed KVM_RUN, else 0
  // KVM_EXIT_*; KVM_EXIT_UNKNOWN for a failed KVM_RUN that gave none.
  uint32_t raw_reason = 0;
  uint32_t suberror = 0;         // kInternalError
  uint64_t hardware_reason = 0;  // kFailEntry
  Io io;                         // kIo
  Mmio mmio;                     // kMmio
  MemoryFault memory_fault;      // kMemoryFault
};

// Reads the exit out of a vCPU's shared page of `run_size` bytes, where
// KVM_RUN returned `result` (0 or -errno).
VcpuExit DecodeVcpuExit(kvm_run* run, size_t run_size, int result);

}  // namespace tdp

#endif  // ENGINE_KVM_VCPU_EXIT_H_
