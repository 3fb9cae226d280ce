// Kvm: the host's KVM, opened and probed once. Makes virtual machines.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_KVM_KVM_H_
#define ENGINE_KVM_KVM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kvm/kvm_system_calls.h"
#include "engine/kvm/kvm_vm.h"

namespace tdp {

struct KvmCapability {
  std::string name;  // stable, e.g. "kvm.dirty_ring"
  bool available = false;
  std::string hint;  // if not available: what is missing and how to get it
};

class Kvm {
 public:
  // Opens /dev/kvm, asks for its capabilities and makes a VM on trial.
  // CAPABILITY_MISSING, with the fix, where something is missing that no VM
  // can do without.
  static absl::StatusOr<std::unique_ptr<Kvm>> Open(
      std::shared_ptr<KvmSystemCalls> calls);
  // What capabilities() would list on a host where Open() failed with `error`.
  static std::vector<KvmCapability> CapabilitiesWithout(
      const absl::Status& error);

  // Always the same names in the same order; "kvm" is the first.
  const std::vector<KvmCapability>& capabilities() const {
    return capabilities_;
  }
  // Memslots that a VM may have, ids 0 to memslot_count() - 1.
  int memslot_count() const { return memslot_count_; }
  // Frames that one memslot may have: the kernel refuses more.
  static constexpr uint64_t kMaxMemslotFrames = (uint64_t{1} << 31) - 1;
  int max_vcpu_count() const { return max_vcpu_count_; }
  // Bits of a guest physical address that the host's CPU can map.
  int physical_address_bits() const { return physical_address_bits_; }
  // False on an Intel host without "unrestricted guest": see KvmVm.
  bool real_mode_supported() const { return real_mode_supported_; }

  absl::StatusOr<std::unique_ptr<KvmVm>> CreateVm() const;

 private:
  explicit Kvm(KvmFd fd) : fd_(std::move(fd)) {}

  absl::Status Probe();
  absl::Status ReadCpuid();
  // What KVM_CHECK_EXTENSION says; 0 if the extension is unknown.
  int Extension(int extension) const;

  const KvmFd fd_;
  // Written by Open() only.
  std::vector<KvmCapability> capabilities_;
  std::shared_ptr<const KvmCpuid> cpuid_;
  size_t run_size_ = 0;
  int memslot_count_ = 0;
  int max_vcpu_count_ = 0;
  int physical_address_bits_ = 0;
  bool real_mode_supported_ = true;
};

}  // namespace tdp

#endif  // ENGINE_KVM_KVM_H_
