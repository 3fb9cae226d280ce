// E12: collapse in place, against zapping and letting the guest fault the
// frames in again. Enforced: a real memslot, the guest of the software
// hypervisor, userfaultfd. Every thread is on one CPU, where a wake-up is
// cheapest, which is to the baseline's advantage.

#include <algorithm>
#include <future>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/bench/rows.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_registry.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);

void Must(const absl::Status& status) {
  if (!status.ok()) absl::FPrintF(stderr, "%s\n", status.ToString());
  TDP_CHECK(status.ok(), "a call failed");
}

// A VM with one vCPU that writes to each frame of its memory, once a pass.
class TouchedVm {
 public:
  explicit TouchedVm(uint64_t blocks) : range_{Gfn(0), Gfn(blocks * kBlock)} {
    auto registry = VmRegistry::Create({});
    Must(registry.status());
    registry_ = *std::move(registry);
    Must(registry_
             ->CreateVm(
                 "bench",
                 {.vcpu_count = 1, .hypervisor = HypervisorKind::kSoftware},
                 false)
             .status());
    vm_ = *registry_->FindVm("bench");
    Must(
        vm_->CreateMemslot("ram",
                           {.base_gfn = range_.start,
                            .frame_count = static_cast<int64_t>(range_.size())},
                           false)
            .status());
    Must(vm_->LoadGuest(0, TouchGuestConfig{.range = range_, .write = true}));
  }

  // Runs the guest for one pass; the time until its vCPU has exited.
  double PassNs() {
    const Timer timer;
    Must(vm_->Start().status());
    std::promise<void> exited;
    Must(vm_->WaitVcpu(0, absl::InfiniteFuture(),
                       [&](VcpuInfo) { exited.set_value(); }));
    exited.get_future().wait();
    const double ns = timer.ns();
    while (vm_->Describe().state != VmState::kStopped) {
      absl::SleepFor(absl::Microseconds(100));
    }
    return ns;
  }
  int64_t Zap() {
    return Whole([this](GfnRange rest) { return vm_->ZapRange(rest, {}); });
  }
  int64_t Collapse() {
    return Whole(
        [this](GfnRange rest) { return vm_->CollapseHugePages(rest, 2, {}); });
  }
  int64_t Split() {
    return Whole(
        [this](GfnRange rest) { return vm_->SplitHugePages(rest, 1, {}); });
  }
  int64_t served_faults() const { return vm_->Stats().fault_fixed_count; }

 private:
  // A budgeted call, as often as it takes; what it changed.
  template <typename Verb>
  int64_t Whole(Verb verb) {
    int64_t changed = 0;
    for (GfnRange rest = range_; !rest.empty();) {
      const absl::StatusOr<RangeProgress> progress = verb(rest);
      Must(progress.status());
      changed += progress->changed;
      rest.start = progress->next_gfn;
    }
    return changed;
  }

  const GfnRange range_;
  std::unique_ptr<VmRegistry> registry_;
  std::shared_ptr<Vm> vm_;
};

}  // namespace

void RunGuestRows(Harness& harness) {
  if (!harness.Wants("E12")) return;
  const uint64_t blocks = harness.options().quick ? 2 : 16;
  TouchedVm vm(blocks);
  vm.PassNs();
  // What a pass costs without faults is not the refaults' doing.
  const auto refault_ns = [&] {
    const double mapped = vm.PassNs();
    const int64_t before = vm.served_faults();
    const Timer timer;
    vm.Zap();
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
             const int64_t built = vm.Collapse();
             const double ns = timer.ns();
             TDP_CHECK(built == static_cast<int64_t>(blocks),
                       "every block was collapsed");
             vm.Split();
             return ns / static_cast<double>(blocks);
           },
       .baseline =
           [&](int64_t) { return refault_ns() / static_cast<double>(blocks); },
       .better = Better::kAtLeast,
       .target = 50},
      "all threads on one CPU");
}

}  // namespace tdp::bench
