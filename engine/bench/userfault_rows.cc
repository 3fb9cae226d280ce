// F1: a touch that the daemon serves, against a bare userfaultfd handler on
// memory of the same layout. Every thread is on one CPU.

#include <vector>

#include "engine/base/check.h"
#include "engine/bench/bare_userfault.h"
#include "engine/bench/rows.h"
#include "engine/bench/touch_times.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

// Writes to each frame once; the nanoseconds that each write took.
std::vector<double> TimeBareWrites(const BareWindow& window,
                                   BareHandler::Wait wait) {
  window.Zap();
  const BareHandler handler(window, wait);
  std::vector<double> took;
  took.reserve(window.frames());
  for (uint64_t i = 0; i < window.frames(); ++i) {
    auto* const byte =
        reinterpret_cast<volatile uint8_t*>(window.calls().HvaOf(i).value());
    const Timer timer;
    *byte = 1;
    took.push_back(timer.ns());
  }
  return took;
}

std::vector<double> TimeGuestWrites(TouchedVm& vm) {
  vm.Zap(vm.range());
  const int64_t before = vm.served_faults();
  const TouchTimes times(vm.range().size());
  vm.PassNs();
  TDP_CHECK(
      vm.served_faults() - before == static_cast<int64_t>(vm.range().size()),
      "each write is one fault");
  return times.ns();
}

}  // namespace

void RunUserfaultRows(Harness& harness) {
  if (!harness.Wants("F1") && !harness.Wants("F1b") && !harness.Wants("F1c")) {
    return;
  }
  const uint64_t frames = harness.options().quick ? 512 : 8192;
  TouchedVm vm(HypervisorKind::kSoftware,
               {.frame_count = static_cast<int64_t>(frames)});
  BareWindow window(frames);
  const auto served = [&](double fraction) -> Side {
    return [&vm, fraction](int64_t) {
      return Percentile(TimeGuestWrites(vm), fraction);
    };
  };
  const auto bare = [&](BareHandler::Wait wait, double fraction) -> Side {
    return [&window, wait, fraction](int64_t) {
      return Percentile(TimeBareWrites(window, wait), fraction);
    };
  };
  harness.Measure({.id = "F1",
                   .what = "a touch that faults : bare userfaultfd handler, "
                           "p50",
                   .candidate = served(0.5),
                   .baseline = bare(BareHandler::Wait::kRead, 0.5),
                   .target = 1.1},
                  "all threads on one CPU; the bare handler waits in read(2), "
                  "that of F1c in poll(2)");
  harness.Measure({.id = "F1b",
                   .what = "the same, p99",
                   .candidate = served(0.99),
                   .baseline = bare(BareHandler::Wait::kRead, 0.99),
                   .target = 1.25});
  harness.Measure({.id = "F1c",
                   .what = "the same as F1 : a handler that waits in poll(2)",
                   .candidate = served(0.5),
                   .baseline = bare(BareHandler::Wait::kPoll, 0.5)});
}

}  // namespace tdp::bench
