// VcpuRunner: what a vCPU thread needs from a hypervisor: enter the guest, come
// out with a reason, be kicked out.
//
// Thread safety: Kick() from any thread; the rest from the vCPU's thread, or,
// while it does not run, from one other.

#ifndef ENGINE_VM_VCPU_RUNNER_H_
#define ENGINE_VM_VCPU_RUNNER_H_

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/vm/vm_types.h"

namespace tdp {

// Why a vCPU left the guest.
struct GuestExit {
  enum class Kind {
    kDone,         // for good: HLT, SHUTDOWN
    kFailed,       // for good: the guest or the host cannot go on
    kInterrupted,  // kicked
    kConsole,      // `bytes` were written to the console port
    kIgnored,      // nothing to do; enter again
    // The host refused an access: it was not made, and entering again makes
    // it. `name` says how the hypervisor put it.
    kRefused,
    // An access that the hypervisor leaves to the daemon: no memslot is there,
    // or the window refused it. A write has its bytes in `bytes`; a read of
    // `size` bytes is answered. CompleteAccess() comes before the next Run().
    kAccess,
  };

  Kind kind = Kind::kIgnored;
  std::string name;  // as in the KVM API, without its prefix
  std::string bytes;
  Gpa gpa;
  uint64_t size = 0;
  bool is_write = false;
};

// Code in guest memory, entered in 16-bit real mode.
struct RealModeEntry {
  Gpa entry;
};
// Code in guest memory, entered in 64-bit mode, with the vCPU's index in RDI.
struct LongModeEntry {
  uint64_t entry = 0;
};
// A guest whose bytes, if it has any, are in memory.
using LoadedGuest =
    std::variant<TouchGuestConfig, RealModeEntry, LongModeEntry>;

class VcpuRunner {
 public:
  virtual ~VcpuRunner() = default;

  // Makes the vCPU start `guest` from its beginning at the next Run().
  virtual absl::Status Boot(const LoadedGuest& guest) = 0;

  // This thread is the vCPU's, until UnbindThread().
  virtual void BindThread() = 0;
  virtual void UnbindThread() = 0;

  virtual GuestExit Run() = 0;
  // The last kAccess has been made, or dropped. `read_bytes` is the answer to
  // a read, and empty for a write.
  virtual void CompleteAccess(absl::Span<const uint8_t> read_bytes) = 0;

  // Run() returns kInterrupted, at once or soon, until ClearKick().
  virtual void Kick() = 0;
  virtual void ClearKick() = 0;

  virtual uint64_t instruction_pointer() const = 0;
  virtual int64_t touched_frame_count() const = 0;
};

}  // namespace tdp

#endif  // ENGINE_VM_VCPU_RUNNER_H_
