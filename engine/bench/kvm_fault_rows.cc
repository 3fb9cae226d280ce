// F7: what a fault of a KVM guest costs from end to end, and what of it is
// whose. Every thread is on one CPU.

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "engine/bench/bare_kvm.h"
#include "engine/bench/bare_userfault.h"
#include "engine/bench/rows.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

constexpr const char* kWhere =
    "a touch that faults, all of it; where KVM is kvm_pvm, a shadow MMU";

const Result* Find(const Harness& harness, const std::string& id) {
  const auto result =
      std::find_if(harness.results().begin(), harness.results().end(),
                   [&](const Result& one) { return one.id == id; });
  return result == harness.results().end() ? nullptr : &*result;
}

// Each row has one part more than the one before.
void RecordShares(Harness& harness) {
  const Result* const engine = Find(harness, "F7");
  const Result* const handler = Find(harness, "F7b");
  const Result* const mapped = Find(harness, "F7c");
  if (engine == nullptr || handler == nullptr || mapped == nullptr) return;
  const double all = engine->candidate_ns;
  const double guest = mapped->candidate_ns;
  const double kvm = mapped->baseline_ns - guest;
  const double userfault = handler->candidate_ns - mapped->baseline_ns;
  const double daemon = all - handler->candidate_ns;
  const auto percent = [all](double part) { return 100 * part / all; };
  harness.Record(
      {.id = "F7d",
       .what = "the engine's share of a full fault on a KVM guest",
       .unit = "%",
       .value = percent(daemon),
       .judged = false,
       .note = absl::StrFormat(
           "of %.0f ns: guest %.0f %%, KVM and the host's fault %.0f %%, "
           "userfaultfd and wake-ups %.0f %%, engine %.0f %%",
           all, percent(guest), percent(kvm), percent(userfault),
           percent(daemon))});
}

}  // namespace

void RunKvmFaultRows(Harness& harness) {
  if (!harness.Wants("F7") && !harness.Wants("F7b") && !harness.Wants("F7c")) {
    return;
  }
  if (!HasKvm()) return;
  const uint64_t frames = harness.options().quick ? 512 : 8192;
  const auto each = static_cast<double>(frames);
  BareWindow host_window(frames, BareWindow::Faults::kHost);
  BareKvm alone(host_window);
  const Side kvm_alone = [&](int64_t) {
    host_window.Zap();
    return alone.PassNs() / each;
  };
  {
    TouchedVm vm(HypervisorKind::kKvm,
                 {.frame_count = static_cast<int64_t>(frames)});
    harness.Measure({.id = "F7",
                     .what = "a full fault on a KVM guest : KVM alone",
                     .candidate =
                         [&](int64_t) {
                           vm.Zap(vm.range());
                           return vm.PassNs() / each;
                         },
                     .baseline = kvm_alone},
                    kWhere);
  }
  BareWindow window(frames);
  BareKvm handled(window);
  {
    const BareHandler handler(window, BareHandler::Wait::kRead);
    harness.Measure({.id = "F7b",
                     .what = "the same with a bare userfaultfd handler",
                     .candidate =
                         [&](int64_t) {
                           window.Zap();
                           return handled.PassNs() / each;
                         },
                     .baseline = kvm_alone});
  }
  harness.Measure({.id = "F7c",
                   .what = "a touch of a KVM guest that does not fault",
                   .candidate =
                       [&](int64_t) {
                         alone.PassNs();
                         return alone.PassNs() / each;
                       },
                   .baseline = kvm_alone});
  RecordShares(harness);
}

}  // namespace tdp::bench
