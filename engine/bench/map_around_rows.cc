// F4: a guest that touches its memory in order, with map-around, against one
// fault for each frame. Every thread is on one CPU.

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/bench/fixture.h"
#include "engine/bench/rows.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

// As many as Linux maps around a fault on a file.
constexpr int kFewFrames = 16;
constexpr int kManyFrames = 512;

// A VM whose memory is touched a part at a time.
class PartlyTouchedVm {
 public:
  // `around` 0: each frame faults.
  PartlyTouchedVm(HypervisorKind hypervisor, const Options& options, int around)
      : vm_(hypervisor,
            {.frame_count = static_cast<int64_t>(BatchFrames(options)),
             .map_around_frame_count = around}),
        part_frames_(options.quick ? 1024 : 16384) {}

  // Nanoseconds for each frame of a part of which nothing is mapped.
  double PassNs(int64_t slice) {
    const uint64_t parts = vm_.range().size() / part_frames_;
    const Gfn first =
        vm_.range().start + static_cast<uint64_t>(slice) % parts * part_frames_;
    const GfnRange part = {first, first + part_frames_};
    vm_.Zap(part);
    const int64_t faults = vm_.served_faults();
    const double ns = vm_.PassNs(part);
    faults_ += vm_.served_faults() - faults;
    touches_ += static_cast<int64_t>(part_frames_);
    return ns / static_cast<double>(part_frames_);
  }
  Side side() {
    return [this](int64_t slice) { return PassNs(slice); };
  }
  // Of all passes so far.
  double touches_per_fault() const {
    return static_cast<double>(touches_) / static_cast<double>(faults_);
  }

 private:
  TouchedVm vm_;
  const uint64_t part_frames_;
  int64_t faults_ = 0;
  int64_t touches_ = 0;
};

struct RowIds {
  std::string faults;
  std::string time;
};

void MeasureMapAround(Harness& harness, HypervisorKind hypervisor, int around,
                      const RowIds& ids, double faults_target,
                      double time_target) {
  if (!harness.Wants(ids.faults) && !harness.Wants(ids.time)) return;
  const std::string name =
      hypervisor == HypervisorKind::kKvm ? "KVM" : "software hypervisor";
  const Options& options = harness.options();
  PartlyTouchedVm single(hypervisor, options, 0);
  PartlyTouchedVm many(hypervisor, options, around);
  harness.Measure(
      {.id = ids.time,
       .what = absl::StrCat("1 GiB in order, ", around,
                            " frames around a fault : a fault each, ", name),
       .candidate = many.side(),
       .baseline = single.side(),
       .better = Better::kAtLeast,
       .target = time_target},
      "content loaded; 64 MiB at a time, start of the guest included");
  single.PassNs(0);
  many.PassNs(0);
  TDP_CHECK(single.touches_per_fault() == 1, "a fault for each frame");
  harness.Record(
      {.id = ids.faults,
       .what = absl::StrCat("the same: frames mapped by a fault, ", name),
       .unit = "x",
       .value = many.touches_per_fault(),
       .better = Better::kAtLeast,
       .target = faults_target,
       .judged = faults_target != 0});
}

}  // namespace

void RunMapAroundRows(Harness& harness) {
  const auto software = HypervisorKind::kSoftware;
  MeasureMapAround(harness, software, kFewFrames, {"F4", "F4b"}, 10, 5);
  MeasureMapAround(harness, software, kManyFrames, {"F4c", "F4d"}, 0, 0);
  if (!harness.Wants("F4e") && !harness.Wants("F4f")) return;
  if (!HasKvm()) return;
  MeasureMapAround(harness, HypervisorKind::kKvm, kFewFrames, {"F4e", "F4f"}, 0,
                   0);
}

}  // namespace tdp::bench
