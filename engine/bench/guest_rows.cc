// E12: collapse in place, against zapping and letting the guest fault the
// frames in again. Enforced: a real memslot, the guest of the software
// hypervisor, userfaultfd. Every thread is on one CPU, where a wake-up is
// cheapest, which is to the baseline's advantage.

#include <algorithm>

#include "engine/base/check.h"
#include "engine/bench/rows.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);

}  // namespace

void RunGuestRows(Harness& harness) {
  if (!harness.Wants("E12")) return;
  const uint64_t blocks = harness.options().quick ? 2 : 16;
  TouchedVm vm(HypervisorKind::kSoftware,
               {.frame_count = static_cast<int64_t>(blocks * kBlock)});
  vm.PassNs();
  // What a pass costs without faults is not the refaults' doing.
  const auto refault_ns = [&] {
    const double mapped = vm.PassNs();
    const int64_t before = vm.served_faults();
    const Timer timer;
    vm.Zap(vm.range());
    const double zap = timer.ns();
    const double faulting = vm.PassNs();
    TDP_CHECK(
        vm.served_faults() - before == static_cast<int64_t>(blocks * kBlock),
        "the guest faulted on each frame");
    return zap + std::max(faulting - mapped, 0.0);
  };
  harness.Measure(
      {.id = "E12",
       .what = "collapse of a 2M block : zap and 512 refaults by the guest",
       .candidate =
           [&](int64_t) {
             const Timer timer;
             const int64_t built = vm.Collapse(vm.range());
             const double ns = timer.ns();
             TDP_CHECK(built == static_cast<int64_t>(blocks),
                       "every block was collapsed");
             vm.Split(vm.range());
             return ns / static_cast<double>(blocks);
           },
       .baseline =
           [&](int64_t) { return refault_ns() / static_cast<double>(blocks); },
       .better = Better::kAtLeast,
       .target = 50},
      "all threads on one CPU");
}

}  // namespace tdp::bench
