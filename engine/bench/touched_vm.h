// TouchedVm: a VM of the real facade with one memslot and one vCPU that touches
// its frames. Memory is real, and so is the enforcement.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_BENCH_TOUCHED_VM_H_
#define ENGINE_BENCH_TOUCHED_VM_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "engine/base/types.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_registry.h"

namespace tdp::bench {

// Ends the program, and says why, unless the call succeeded.
void Must(const absl::Status& status);

// Whether guests can run in KVM.
bool HasKvm();

class TouchedVm {
 public:
  // `memslot` says all but where it begins: at frame 0. Its pages are
  // allocated, and nothing is mapped.
  TouchedVm(HypervisorKind hypervisor, MemslotConfig memslot);
  TouchedVm(const TouchedVm&) = delete;
  TouchedVm& operator=(const TouchedVm&) = delete;

  Vm& vm() { return *vm_; }
  GfnRange range() const { return range_; }

  // The guest writes to each frame once, in ascending order; the time until
  // its vCPU has exited.
  double PassNs() { return PassNs(range_); }
  double PassNs(GfnRange range);

  // Each does the whole of its range, and returns what it changed.
  int64_t Map(GfnRange range, int max_level);
  int64_t Zap(GfnRange range);
  int64_t Collapse(GfnRange range);
  int64_t Split(GfnRange range);

  int64_t served_faults() const { return vm_->Stats().fault_fixed_count; }

 private:
  const GfnRange range_;
  std::unique_ptr<VmRegistry> registry_;
  std::shared_ptr<Vm> vm_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_TOUCHED_VM_H_
