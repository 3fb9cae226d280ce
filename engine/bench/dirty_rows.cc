// F5: what a harvest of KVM's dirty log costs, against the kernel's call alone.
//
// F6: what dirty logging costs the guest, against KVM's own dirty log. As with
// the kernel's dirty_log_perf_test, the guest writes to each frame once between
// two harvests: every write is one that must be noticed. Every thread is on one
// CPU.

#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/bench/bare_kvm.h"
#include "engine/bench/bare_userfault.h"
#include "engine/bench/harness.h"
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

MemslotConfig Logged(uint64_t frames, DirtyMode mode) {
  return {.frame_count = static_cast<int64_t>(frames),
          .dirty_log_enabled = true,
          .dirty_mode = mode};
}

// A guest that writes all its memory, with its dirty log and without.
class GuestPasses {
 public:
  GuestPasses(uint64_t frames, DirtyMode mode)
      : each_(static_cast<double>(frames)),
        plain_(HypervisorKind::kKvm,
               {.frame_count = static_cast<int64_t>(frames)}),
        logged_(HypervisorKind::kKvm, Logged(frames, mode)) {
    plain_.PassNs();
    logged_.PassNs();
  }

  double PlainNs() { return plain_.PassNs() / each_; }
  double LoggedNs() {
    Harvest(logged_);
    const double ns = logged_.PassNs() / each_;
    TDP_CHECK(static_cast<double>(Harvest(logged_)) == each_,
              "each write was noticed");
    return ns;
  }

 private:
  const double each_;
  TouchedVm plain_;
  TouchedVm logged_;
};

}  // namespace

void RunHarvestRows(Harness& harness) {
  const bool wanted =
      harness.Wants("F5") || harness.Wants("F5b") || harness.Wants("F5c");
  if (!wanted || !HasKvm()) return;
  const uint64_t frames = harness.options().quick ? 2048 : 262144;  // 1 GiB
  BareWindow window(frames, BareWindow::Faults::kHost);
  BareKvm kvm(window);
  TouchedVm vm(HypervisorKind::kKvm, Logged(frames, DirtyMode::kHarvest));
  kvm.PassNs();
  vm.PassNs();
  kvm.SetDirtyLog(true);
  Harvest(vm);
  std::vector<uint64_t> words(frames / 64);
  const struct {
    const char* id;
    int percent;
  } rows[] = {{"F5", 1}, {"F5b", 10}, {"F5c", 100}};
  for (const auto& [id, percent] : rows) {
    const uint64_t dirty = frames * static_cast<uint64_t>(percent) / 100;
    const GfnRange written = {Gfn(0), Gfn(dirty)};
    harness.Measure({.id = id,
                     .what = absl::StrCat("harvest with ", percent,
                                          " % dirty : KVM_GET_DIRTY_LOG"),
                     .candidate =
                         [&](int64_t) {
                           vm.PassNs(written);
                           const Timer timer;
                           const auto bits =
                               vm.vm().ReadDirtyLog("ram", "", vm.range());
                           const double ns = timer.ns();
                           Must(bits.status());
                           const auto count =
                               vm.vm().ClearDirtyLog("ram", "", *bits);
                           Must(count.status());
                           TDP_CHECK(*count == static_cast<int64_t>(dirty),
                                     "each write was noticed");
                           return ns;
                         },
                     .baseline =
                         [&](int64_t) {
                           kvm.PassNs(dirty);
                           const Timer timer;
                           kvm.TakeDirtyLog(absl::MakeSpan(words));
                           return timer.ns();
                         },
                     .target = 1.15});
  }
}

void RunDirtyGuestRows(Harness& harness) {
  const bool wanted =
      harness.Wants("F6") || harness.Wants("F6b") || harness.Wants("F6c");
  if (!wanted || !HasKvm()) return;
  const uint64_t frames = harness.options().quick ? 512 : 8192;
  const auto each = static_cast<double>(frames);
  BareWindow window(frames, BareWindow::Faults::kHost);
  BareKvm kvm(window);
  kvm.PassNs();
  GuestPasses harvested(frames, DirtyMode::kHarvest);
  GuestPasses tracked(frames, DirtyMode::kWriteProtect);
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
  const auto slow_down = [](GuestPasses& guest) {
    return [&guest](int64_t) { return guest.LoggedNs() / guest.PlainNs(); };
  };
  const auto kvm_slow_down = [&](int64_t) {
    return kvm_logged_ns() / kvm_plain_ns();
  };
  const char kNote[] =
      "each frame written once between two harvests; instead of ns, times the "
      "pass without a log";
  harness.Measure({.id = "F6",
                   .what = "a guest's slow-down by a harvested log : by KVM's",
                   .candidate = slow_down(harvested),
                   .baseline = kvm_slow_down,
                   .target = 1.1},
                  kNote);
  harness.Measure(
      {.id = "F6b",
       .what = "a guest's slow-down by WRITE_PROTECT : by KVM's log",
       .candidate = slow_down(tracked),
       .baseline = kvm_slow_down},
      kNote);
  harness.Measure({.id = "F6c",
                   .what = "a write that WRITE_PROTECT notices : by KVM's log",
                   .candidate = [&](int64_t) { return tracked.LoggedNs(); },
                   .baseline = [&](int64_t) { return kvm_logged_ns(); }});
}

}  // namespace tdp::bench
