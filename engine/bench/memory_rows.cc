// E11: the memory of the tables. E13: the start of dirty logging.

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/bench/baselines.h"
#include "engine/bench/fixture.h"
#include "engine/bench/machine.h"
#include "engine/bench/rows.h"

namespace tdp::bench {
namespace {

void RecordTableBytes(Harness& harness, const char* id, const char* what,
                      PageLevel level, double target) {
  if (!harness.Wants(id)) return;
  const uint64_t frames = GuestFrames(harness.options());
  const int64_t resident = ResidentBytes();
  NullVm vm(frames);
  vm.MapAll(level);
  const TdpMmu& mmu = vm.mmu();
  const int64_t tables = mmu.page_table_bytes();
  const int64_t headers = mmu.page_table_header_bytes();
  const int64_t directory = mmu.leaf_directory_bytes();
  const int64_t sum = tables + headers + directory;
  harness.Record(
      {.id = id,
       .what = what,
       .unit = "%",
       .value = 100.0 * static_cast<double>(sum) /
                static_cast<double>(frames * kPageSize),
       .target = target,
       .note = absl::StrCat(
           "tables ", tables, ", headers ", headers, ", directory ", directory,
           " bytes; pool slack, objects and caches beside: ",
           (ResidentBytes() - resident - sum) / 1024, " KiB")});
}

}  // namespace

void RunTableBytesRows(Harness& harness) {
  RecordTableBytes(harness, "E11", "table bytes : guest bytes, 4K",
                   PageLevel::k4K, 0.205);
  RecordTableBytes(harness, "E11b", "table bytes : guest bytes, 2M",
                   PageLevel::k2M, 0.001);
}

void RunDirtyLogRows(Harness& harness) {
  if (!harness.Wants("E13")) return;
  // One pass is short: a batch is many.
  const int passes = harness.options().quick ? 2 : 32;
  const uint64_t frames = GuestFrames(harness.options());
  const uint64_t leaves = frames / FramesPerEntry(PageLevel::k2M);
  constexpr uint64_t kWritable = 7;
  NullVm vm(frames);
  vm.MapAll(PageLevel::k2M);
  AtomicArray array(leaves, kWritable, false);
  harness.Measure(
      {.id = "E13",
       .what = "write-protect 16 GiB of 2M leaves : compare-exchange",
       .candidate =
           [&](int64_t) {
             double ns = 0;
             for (int i = 0; i < passes; ++i) {
               const Timer timer;
               const MmuProgress progress = vm.mmu().WriteProtectRange(
                   {Gfn(0), Gfn(frames)}, PageLevel::k2M, [] { return false; });
               ns += timer.ns();
               TDP_CHECK(
                   progress.changed_entries == static_cast<int64_t>(leaves),
                   "every leaf was writable");
               vm.MapAll(PageLevel::k2M);
             }
             return ns / passes / static_cast<double>(leaves);
           },
       .baseline =
           [&](int64_t) {
             double ns = 0;
             for (int i = 0; i < passes; ++i) {
               const Timer timer;
               array.CompareExchangeAll(0, leaves, kWritable);
               ns += timer.ns();
               array.Fill(0, leaves, kWritable);
             }
             return ns / passes / static_cast<double>(leaves);
           },
       .target = 1.5});
}

}  // namespace tdp::bench
