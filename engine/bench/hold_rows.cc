// E9: how long mmu_lock is held, in CPU time of the holder, from before it is
// acquired to its release. Needs a build with lock hooks.

#include <time.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/limits.h"
#include "engine/base/test_hooks.h"
#include "engine/bench/fixture.h"
#include "engine/bench/rows.h"
#include "engine/testing/tdp_mmu_peer.h"

namespace tdp::bench {
namespace {

double ThreadCpuUs() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 +
         static_cast<double>(now.tv_nsec) / 1e3;
}

// Belongs to the one thread that uses the lock.
class HoldRecorder final : public TestHooks {
 public:
  explicit HoldRecorder(const MmuLock& lock) : lock_(&lock) {
    test_hooks::Install(this);
  }
  ~HoldRecorder() override { test_hooks::Install(nullptr); }

  void BeforeStep(TestStep step, const void* where) override {
    if (where != lock_) return;
    if (step == TestStep::kReaderLock || step == TestStep::kWriterLock) {
      start_us_ = ThreadCpuUs();
    } else if (step == TestStep::kReaderUnlock ||
               step == TestStep::kWriterUnlock) {
      holds_us_.push_back(ThreadCpuUs() - start_us_);
    }
  }

  void MoveTo(std::vector<double>& holds_us) {
    holds_us.insert(holds_us.end(), holds_us_.begin(), holds_us_.end());
    holds_us_.clear();
  }

 private:
  const void* const lock_;
  double start_us_ = 0;
  std::vector<double> holds_us_;
};

// The longest of as many holds that do nothing for a microsecond: what the
// machine itself adds.
double LongestIdleHoldUs(size_t count) {
  double longest = 0;
  for (size_t i = 0; i < count; ++i) {
    const double start = ThreadCpuUs();
    double now = start;
    while (now < start + 1) now = ThreadCpuUs();
    longest = std::max(longest, now - start);
  }
  return longest;
}

}  // namespace

void RunHoldRows(Harness& harness) {
  if (!test_hooks::kSeesLocks) return;
  if (!harness.Wants("E9") && !harness.Wants("E9b")) return;
  const Options& options = harness.options();
  const uint64_t frames = GuestFrames(options);
  const GfnRange all = {Gfn(0), Gfn(frames)};
  const std::vector<uint64_t> keys = ShuffledFrames(frames, options.seed);
  const auto never = [] { return false; };
  const auto must = [](const MmuProgress& progress) {
    TDP_CHECK(progress.status.ok(), "a verb failed");
  };
  NullVm vm(frames);
  TdpMmu& mmu = vm.mmu();
  const auto batch = [&](MmuOperation::Kind kind) {
    constexpr uint64_t kFrames = limits::kMaxBatchFrames;
    for (uint64_t first = 0; first < frames; first += kFrames) {
      const MmuOperation operation = {
          .kind = kind, .range = {Gfn(first), Gfn(first + kFrames)}};
      TDP_CHECK(mmu.ApplyBatch({&operation, 1}).status.ok(), "a batch failed");
    }
  };
  const std::vector<std::pair<std::string, std::function<void()>>> verbs = {
      {"map", [&] { vm.MapAll(); }},
      {"map again", [&] { vm.MapAll(); }},
      {"write-protect",
       [&] { must(mmu.WriteProtectRange(all, PageLevel::k4K, never)); }},
      {"grant writes", [&] { vm.MapAll(); }},
      {"age", [&] { must(mmu.AgeRange(all, false, never, [](GfnRange) {})); }},
      {"map aged", [&] { vm.MapAll(); }},
      {"protect", [&] { must(mmu.ProtectRange(all, {.read = true}, never)); }},
      {"unprotect",
       [&] {
         must(mmu.ProtectRange(all, {.read = true, .write = true}, never));
       }},
      {"collapse",
       [&] { must(mmu.CollapseHugePages(all, PageLevel::k2M, never)); }},
      {"split", [&] { must(mmu.SplitHugePages(all, PageLevel::k4K, never)); }},
      {"grant writes", [&] { vm.MapAll(); }},
      {"batch", [&] { batch(MmuOperation::Kind::kWriteProtect); }},
      {"batch for nothing", [&] { batch(MmuOperation::Kind::kWriteProtect); }},
      {"batch that zaps", [&] { batch(MmuOperation::Kind::kZap); }},
      {"batch that zaps nothing", [&] { batch(MmuOperation::Kind::kZap); }},
      {"fault",
       [&] {
         for (const uint64_t gfn : Slice(keys, 0, BatchFrames(options))) {
           (void)mmu.HandleFault({.gfn = Gfn(gfn), .write = true});
         }
       }},
      {"zap", [&] { vm.Zap(0, frames); }},
      {"zap nothing", [&] { vm.Zap(0, frames); }},
      {"map", [&] { vm.MapAll(); }},
      {"invalidate",
       [&] { TDP_CHECK(mmu.InvalidateRoots().ok(), "no new root"); }},
      {"map over an invalidated root", [&] { vm.Map(0, frames / 4); }},
      {"zap invalidated roots",
       [&] { TDP_CHECK(mmu.ZapInvalidatedRoots().ok(), "no zap"); }},
      {"zap", [&] { vm.Zap(0, frames); }},
  };
  // Each pass does the same. The first is not recorded: it touches the memory.
  for (const auto& [name, verb] : verbs) verb();
  std::map<std::string, std::vector<double>> verbs_holds_us;
  {
    HoldRecorder recorder(TdpMmuPeer::Lock(mmu));
    const int passes = options.quick ? 1 : 3;
    for (int pass = 0; pass < passes; ++pass) {
      for (const auto& [name, verb] : verbs) {
        verb();
        recorder.MoveTo(verbs_holds_us[name]);
      }
    }
  }
  size_t count = 0;
  double worst = 0;
  double longest = 0;
  std::string note;
  for (const auto& [name, holds_us] : verbs_holds_us) {
    if (holds_us.empty()) continue;
    count += holds_us.size();
    const double high = Percentile(holds_us, 0.999);
    const double max = Percentile(holds_us, 1);
    worst = std::max(worst, high);
    longest = std::max(longest, max);
    absl::StrAppendFormat(&note, "%s%s %.1f, %.1f, %d",
                          note.empty() ? "p99.9, max, holds: " : "; ", name,
                          high, max, holds_us.size());
  }
  TDP_CHECK(options.quick || count >= 100000, "holds enough");
  harness.Record({.id = "E9",
                  .what = "mmu_lock held, the worst verb's p99.9",
                  .unit = "us",
                  .value = worst,
                  .target = 50,
                  .note = note});
  const double idle = LongestIdleHoldUs(count);
  harness.Record({.id = "E9b",
                  .what = "mmu_lock held, longest",
                  .unit = "us",
                  .value = longest,
                  .target = 200,
                  .noise = idle,
                  .note = absl::StrFormat(
                      "%d holds; the longest of as many idle ones: %.1f us",
                      count, idle)});
}

}  // namespace tdp::bench
