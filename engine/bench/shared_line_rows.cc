// E10: the cache lines that two threads share and that one of them writes; and
// instructions, which explain other rows.

#include <algorithm>
#include <functional>
#include <latch>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/bench/access_trace.h"
#include "engine/bench/fixture.h"
#include "engine/bench/rows.h"
#include "engine/bench/walks.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);

// A thread that is known to the engine, having worked at another frame before.
// Threads that are compared live at the same time: what one owns, such as its
// slot in a lock, would else pass to the next.
class TracedThread {
 public:
  TracedThread(const std::function<void(uint64_t gfn)>& work, uint64_t warm_gfn)
      : thread_([this, &work, warm_gfn] {
          const UntracedStack stack;
          work(warm_gfn);
          ready_.count_down();
          asked_.wait();
          lines_ = TraceLines([&] { work(gfn_); });
          done_.count_down();
          released_.wait();
        }) {
    ready_.wait();
  }
  ~TracedThread() {
    released_.count_down();
    thread_.join();
  }
  TracedThread(const TracedThread&) = delete;
  TracedThread& operator=(const TracedThread&) = delete;

  // What the thread touches while it works at `gfn`. Once.
  TouchedLines Trace(uint64_t gfn) {
    gfn_ = gfn;
    asked_.count_down();
    done_.wait();
    return lines_;
  }

 private:
  uint64_t gfn_ = 0;
  TouchedLines lines_;
  std::latch ready_{1};
  std::latch asked_{1};
  std::latch done_{1};
  std::latch released_{1};
  std::thread thread_;
};

uint64_t LineOfEntry(const TdpMmu& mmu, uint64_t gfn) {
  const std::vector<WalkedEntry> path = mmu.WalkGfn(Gfn(gfn));
  TDP_CHECK(path.size() >= 2, "the frame has a table");
  const uint64_t table = path[path.size() - 2].spte.table_address();
  const int index = IndexIn(Gfn(gfn), path.back().level);
  return (table + static_cast<uint64_t>(index) * sizeof(uint64_t)) &
         ~(kLineBytes - 1);
}

std::string Describe(const TdpMmu& mmu, uint64_t line) {
  const auto object = reinterpret_cast<uint64_t>(&mmu);
  if (line + kLineBytes > object && line < object + sizeof(mmu)) {
    return absl::StrCat("TdpMmu+", line > object ? line - object : 0);
  }
  return absl::StrCat("0x", absl::Hex(line));
}

void TracePair(Harness& harness, TdpMmu& mmu, const char* id, const char* what,
               bool writes_entry,
               const std::function<void(uint64_t gfn)>& work) {
  if (!harness.Wants(id)) return;
  // Frames of four different tables.
  const uint64_t gfns[2] = {2 * kBlock + 5, 7 * kBlock + 200};
  const auto first = std::make_unique<TracedThread>(work, gfns[0] + kBlock);
  const auto second = std::make_unique<TracedThread>(work, gfns[1] + kBlock);
  TouchedLines lines[2];
  for (int i = 0; i < 2; ++i) {
    const uint64_t own_line = LineOfEntry(mmu, gfns[i]);
    lines[i] = (i == 0 ? first : second)->Trace(gfns[i]);
    const auto found = lines[i].find(own_line);
    TDP_CHECK(found != lines[i].end() && found->second == writes_entry,
              "the trace shows the frame's own entry");
  }
  int64_t shared = 0;
  int64_t written = 0;
  std::string note;
  for (const auto& [line, is_written] : lines[0]) {
    written += is_written ? 1 : 0;
    const auto other = lines[1].find(line);
    if (other == lines[1].end() || !(is_written || other->second)) continue;
    ++shared;
    absl::StrAppend(&note, " ", Describe(mmu, line));
  }
  harness.Record(
      {.id = id,
       .what = what,
       .unit = "lines",
       .value = static_cast<double>(shared),
       .better = Better::kAtMost,
       .target = 0,
       .note = absl::StrCat("touched ", lines[0].size(), ", wrote ", written,
                            " (the thread's own, and the entry's)",
                            note.empty() ? "" : "; shared:", note)});
}

constexpr uint64_t kWarmFrame = 8 * kBlock;

// Runs `code` for frames from kWarmFrame on, and then, counted, from 0 on.
void RecordInstructions(Harness& harness, const char* id, const char* what,
                        uint64_t operations,
                        const std::function<void(uint64_t first_gfn)>& code) {
  if (!harness.Wants(id)) return;
  code(kWarmFrame);
  const int64_t instructions = CountInstructions([&] { code(0); });
  harness.Record({.id = id,
                  .what = what,
                  .unit = "instr",
                  .value = static_cast<double>(instructions) /
                           static_cast<double>(operations),
                  .judged = false});
}

}  // namespace

void RunSharedLineRows(Harness& harness) {
  if (!harness.Wants("E10") && !harness.Wants("E10b") &&
      !harness.Wants("E10c") && !harness.Wants("I1") && !harness.Wants("I1b") &&
      !harness.Wants("I2") && !harness.Wants("I5") && !harness.Wants("I6") &&
      !harness.Wants("I7")) {
    return;
  }
  // In the heap, which is traced; the main thread's stack is not.
  const auto vm = std::make_unique<NullVm>(16 * kBlock);
  TdpMmu& mmu = vm->mmu();
  vm->MapAll();
  // liburcu's thread goes back to sleep.
  vm->rcu().Barrier();
  absl::SleepFor(absl::Milliseconds(50));

  TracePair(harness, mmu, "E10", "lines shared and written: a walk", false,
            [&](uint64_t gfn) { Sink(WalkEach(mmu, {&gfn, 1})); });
  vm->Zap(0, vm->frames());
  TracePair(harness, mmu, "E10b",
            "the same: a fault whose table exists, its entry's line aside",
            true, [&](uint64_t gfn) {
              Sink(static_cast<uint64_t>(
                  mmu.HandleFault({.gfn = Gfn(gfn), .write = true}).result));
            });
  vm->MapAll();
  TracePair(harness, mmu, "E10c", "the same: a fault on a mapped frame", true,
            [&](uint64_t gfn) {
              Sink(static_cast<uint64_t>(
                  mmu.HandleFault({.gfn = Gfn(gfn), .write = true}).result));
            });

  // An instruction that is counted takes ten microseconds.
  const uint64_t counted = harness.options().quick ? 16 : kBlock;
  const uint64_t walked = std::min(counted, uint64_t{kRunFrames});
  const auto gfns_from = [walked](uint64_t first) {
    std::vector<uint64_t> gfns(walked);
    for (uint64_t i = 0; i < walked; ++i) gfns[i] = first + i * 61;
    return gfns;
  };
  const std::vector<uint64_t> gfns = gfns_from(0);
  RecordInstructions(harness, "I1", "instructions of a walk, in runs of 64",
                     walked, [&](uint64_t) { Sink(WalkRuns(mmu, gfns)); });
  RecordInstructions(harness, "I1b", "the same, a section for each walk",
                     walked, [&](uint64_t) { Sink(WalkEach(mmu, gfns)); });
  RecordInstructions(harness, "I2", "the same, in runs of 64, prefetched",
                     walked,
                     [&](uint64_t) { Sink(WalkRunsPrefetched(mmu, gfns)); });
  RecordInstructions(harness, "I7", "instructions of ZapRange, a frame",
                     counted, [&](uint64_t first) { vm->Zap(first, counted); });
  vm->Zap(0, vm->frames());
  RecordInstructions(harness, "I5", "instructions of MapRange, a frame",
                     counted, [&](uint64_t first) { vm->Map(first, counted); });
  vm->Zap(0, vm->frames());
  const std::vector<uint64_t> warm_gfns = gfns_from(kWarmFrame);
  RecordInstructions(
      harness, "I6", "instructions of a fault", walked, [&](uint64_t first) {
        for (const uint64_t gfn : first == 0 ? gfns : warm_gfns) {
          Sink(static_cast<uint64_t>(
              mmu.HandleFault({.gfn = Gfn(gfn), .write = true}).result));
        }
      });
}

}  // namespace tdp::bench
