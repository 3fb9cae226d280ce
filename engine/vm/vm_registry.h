// VmRegistry: the VMs of a daemon, by id, and what its host can do.
//
// Thread safety: all methods, from any thread. BLOCKING methods may wait for
// vCPU threads or the kernel.

#ifndef ENGINE_VM_VM_REGISTRY_H_
#define ENGINE_VM_VM_REGISTRY_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_types.h"

namespace tdp {

// Something the daemon needs or uses from its host.
struct HostCapability {
  std::string name;  // stable, e.g. "userfaultfd.minor_shmem"
  bool available = false;
  std::string hint;  // if not available: what is missing and how to get it
};

struct VmRegistryOptions {
  // kUnspecified: KVM where it works, else software.
  HypervisorKind hypervisor = HypervisorKind::kUnspecified;
  std::string image_dir;  // empty: no file sources and no ELF guests
  int64_t max_vms = 0;    // 0: limits::kMaxVms
  // What the page tables of all VMs may hold; 0: a sixteenth of the memory.
  int64_t max_page_table_bytes = 0;
};

class VmRegistry {
 public:
  // Probes the host. Fails where no VM could ever run (userfaultfd may not be
  // used, for instance), with the missing permission and its fix.
  static absl::StatusOr<std::unique_ptr<VmRegistry>> Create(
      const VmRegistryOptions& options);
  // Stops and deletes every VM. REQUIRES: what FindVm() gave was let go of.
  virtual ~VmRegistry() = default;

  virtual const std::vector<HostCapability>& capabilities() const = 0;
  // Name to value, e.g. "max_vms"; "max_gfn" is the highest frame that a
  // memslot may hold.
  virtual const std::map<std::string, int64_t>& limits() const = 0;
  // What a VM that asks for kUnspecified gets.
  virtual HypervisorKind default_hypervisor() const = 0;

  // `id` is well formed. BLOCKING.
  virtual absl::StatusOr<VmInfo> CreateVm(absl::string_view id,
                                          const VmConfig& config,
                                          bool validate_only) = 0;
  // NOT_FOUND if there is none.
  virtual absl::StatusOr<std::shared_ptr<Vm>> FindVm(
      absl::string_view id) const = 0;
  // Ordered by id.
  virtual std::vector<VmInfo> ListVms() const = 0;
  // Only in CREATED, STOPPED or FAILED. A non-empty `etag` must match.
  // Calls in flight keep the object alive; they fail with NOT_FOUND. BLOCKING.
  virtual absl::Status DeleteVm(absl::string_view id,
                                absl::string_view etag) = 0;
};

}  // namespace tdp

#endif  // ENGINE_VM_VM_REGISTRY_H_
