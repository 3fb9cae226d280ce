// F6: what dirty logging costs the guest, against KVM's own dirty log. As with
// the kernel's dirty_log_perf_test, the guest writes to each frame once between
// two harvests: every write is one that must be noticed. Every thread is on one
// CPU.

#include "engine/base/check.h"
#include "engine/bench/bare_kvm.h"
#include "engine/bench/bare_userfault.h"
#include "engine/bench/rows.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

// Makes every frame clean; how many were not.
int64_t Harvest(TouchedVm& touched) {
  Vm& vm = touched.vm();
  int64_t cleared = 0;
  for (GfnRange rest = touched.range(); !rest.empty();) {
    const auto bits = vm.ReadDirtyLog("ram", "", rest);
    Must(bits.status());
    const auto count = vm.ClearDirtyLog("ram", "", *bits);
    Must(count.status());
    cleared += *count;
    rest.start = bits->first_gfn + static_cast<uint64_t>(bits->frame_count);
  }
  return cleared;
}

}  // namespace

void RunDirtyGuestRows(Harness& harness) {
  if (!harness.Wants("F6") && !harness.Wants("F6b")) return;
  if (!HasKvm()) return;
  const uint64_t frames = harness.options().quick ? 512 : 8192;
  const auto each = static_cast<double>(frames);
  const MemslotConfig plain = {.frame_count = static_cast<int64_t>(frames)};
  MemslotConfig logging = plain;
  logging.dirty_log_enabled = true;
  BareWindow window(frames, BareWindow::Faults::kHost);
  BareKvm kvm(window);
  TouchedVm vm(HypervisorKind::kKvm, plain);
  TouchedVm logged_vm(HypervisorKind::kKvm, logging);
  kvm.PassNs();
  vm.PassNs();
  logged_vm.PassNs();

  const auto plain_ns = [&] { return vm.PassNs() / each; };
  const auto logged_ns = [&] {
    Harvest(logged_vm);
    const double ns = logged_vm.PassNs() / each;
    TDP_CHECK(Harvest(logged_vm) == static_cast<int64_t>(frames),
              "each write was noticed");
    return ns;
  };
  const auto kvm_plain_ns = [&] {
    kvm.SetDirtyLog(false);
    kvm.PassNs();
    return kvm.PassNs() / each;
  };
  const auto kvm_logged_ns = [&] {
    kvm.SetDirtyLog(false);
    kvm.PassNs();
    kvm.SetDirtyLog(true);
    return kvm.PassNs() / each;
  };
  harness.Measure(
      {.id = "F6",
       .what = "a guest's slow-down by dirty logging : by KVM's own",
       .candidate = [&](int64_t) { return logged_ns() / plain_ns(); },
       .baseline = [&](int64_t) { return kvm_logged_ns() / kvm_plain_ns(); },
       .target = 1.1},
      "each frame written once between two harvests; instead of ns, times the "
      "pass without a log");
  harness.Measure({.id = "F6b",
                   .what = "a write that is noticed : by KVM's own log",
                   .candidate = [&](int64_t) { return logged_ns(); },
                   .baseline = [&](int64_t) { return kvm_logged_ns(); }});
}

}  // namespace tdp::bench
