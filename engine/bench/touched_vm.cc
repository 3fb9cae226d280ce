#include "engine/bench/touched_vm.h"

#include <algorithm>
#include <future>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/bench/harness.h"

namespace tdp::bench {
namespace {

std::unique_ptr<VmRegistry> NewRegistry() {
  auto registry = VmRegistry::Create({});
  Must(registry.status());
  return *std::move(registry);
}

// A budgeted call, as often as it takes; what it changed.
template <typename Verb>
int64_t Whole(GfnRange rest, Verb verb) {
  int64_t changed = 0;
  while (!rest.empty()) {
    const absl::StatusOr<RangeProgress> progress = verb(rest);
    Must(progress.status());
    changed += progress->changed;
    rest.start = progress->next_gfn;
  }
  return changed;
}

}  // namespace

void Must(const absl::Status& status) {
  if (!status.ok()) absl::FPrintF(stderr, "%s\n", status.ToString());
  TDP_CHECK(status.ok(), "a call failed");
}

bool HasKvm() {
  return NewRegistry()->default_hypervisor() == HypervisorKind::kKvm;
}

TouchedVm::TouchedVm(HypervisorKind hypervisor, MemslotConfig memslot)
    : range_{Gfn(0), Gfn(static_cast<uint64_t>(memslot.frame_count))},
      registry_(NewRegistry()) {
  Must(registry_
           ->CreateVm("bench", {.vcpu_count = 1, .hypervisor = hypervisor},
                      false)
           .status());
  vm_ = *registry_->FindVm("bench");
  Must(vm_->CreateMemslot("ram", memslot, false).status());
  Map(range_, 1);
  Zap(range_);
}

double TouchedVm::PassNs(GfnRange range) {
  Must(vm_->LoadGuest(0, TouchGuestConfig{.range = range, .write = true}));
  const Timer timer;
  Must(vm_->Start().status());
  std::promise<void> exited;
  Must(vm_->WaitVcpu(0, absl::InfiniteFuture(),
                     [&](VcpuInfo) { exited.set_value(); })
           .status());
  exited.get_future().wait();
  const double ns = timer.ns();
  while (vm_->Describe().state != VmState::kStopped) {
    absl::SleepFor(absl::Microseconds(100));
  }
  return ns;
}

int64_t TouchedVm::Map(GfnRange range, int max_level) {
  return Whole(range, [&](GfnRange rest) {
    return vm_->MapRange(rest, max_level, /*write=*/true, {});
  });
}

int64_t TouchedVm::Zap(GfnRange range) {
  return Whole(range,
               [this](GfnRange rest) { return vm_->ZapRange(rest, {}); });
}

int64_t TouchedVm::Collapse(GfnRange range) {
  return Whole(range, [this](GfnRange rest) {
    return vm_->CollapseHugePages(rest, 2, {});
  });
}

int64_t TouchedVm::Split(GfnRange range) {
  return Whole(range, [this](GfnRange rest) {
    return vm_->SplitHugePages(rest, 1, {});
  });
}

}  // namespace tdp::bench
