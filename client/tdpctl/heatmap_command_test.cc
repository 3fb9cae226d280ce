// heatmap.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr char kLegend[] =
    "D dirty  Y young  H huge  M mapped  . unmapped  ? not reached  "
    "(small: partly)\n";

v1::Memslot MakeMemslot(const std::string& name, uint64_t base_gfn,
                        int64_t frame_count) {
  v1::Memslot slot;
  slot.set_name(name);
  slot.set_base_gfn(base_gfn);
  slot.set_frame_count(frame_count);
  return slot;
}

v1::GetMemslotResponse OneMemslot(const v1::Memslot& slot) {
  v1::GetMemslotResponse response;
  *response.mutable_memslot() = slot;
  return response;
}

// A batch with leaves of 4K.
v1::WalkRangeResponse Leaves(const std::vector<uint64_t>& gfns,
                             uint64_t next_gfn) {
  v1::WalkRangeResponse batch;
  for (const uint64_t gfn : gfns) {
    v1::Spte& spte = *batch.add_sptes();
    spte.set_level(v1::PAGE_LEVEL_4K);
    spte.set_base_gfn(gfn);
    spte.set_present(true);
    spte.set_leaf(true);
  }
  batch.set_next_gfn(next_gfn);
  return batch;
}

TEST_F(TdpctlTest, AMemslotIsAMapOfItsFrames) {
  server_.get_memslot.Return(
      OneMemslot(MakeMemslot("vms/demo/memslots/ram", 256, 6)));
  v1::WalkRangeResponse batch = Leaves({256, 257, 258}, 262);
  batch.mutable_sptes(1)->set_accessed(true);
  batch.mutable_sptes(2)->set_dirty(true);
  server_.walk_range.Return({batch});
  const std::string map =
      "vms/demo/memslots/ram  0x100000..0x106000  cell: 1 frame (4K)\n"
      "mapped 12.0K of 24K  huge 0  young 4.0K  dirty 4.0K by the Dirty bits\n";
  EXPECT_EQ(Run({"heatmap", "demo/ram"}),
            map + "gfn:0x100  MYD...\n" + kLegend);
  EXPECT_EQ(Run({"heatmap", "vms/demo/memslots/ram", "--width=4"}),
            map + "gfn:0x100  MYD.\ngfn:0x104  ..\n" + kLegend);
  EXPECT_EQ(server_.get_memslot.requests().at(0).name(),
            "vms/demo/memslots/ram");
  EXPECT_THAT(server_.walk_range.requests().at(0),
              EqualsProto(R"pb(vm: "vms/demo"
                               range { start_gfn: 256 end_gfn: 262 }
                               leaves_only: true
                               present_only: true)pb"));
  EXPECT_THAT(server_.read_dirty_log.requests(), IsEmpty());
}

TEST_F(TdpctlTest, ALargeMemslotHasCellsOfManyFrames) {
  server_.get_memslot.Return(
      OneMemslot(MakeMemslot("vms/a/memslots/r", 0, int64_t{1} << 28)));
  v1::WalkRangeResponse batch;
  for (uint64_t i = 0; i < 512; ++i) {
    v1::Spte& spte = *batch.add_sptes();
    spte.set_level(v1::PAGE_LEVEL_1G);
    spte.set_base_gfn(i << 18);
    spte.set_present(true);
    spte.set_leaf(true);
  }
  server_.walk_range.Return({batch});
  const std::string map = Run({"heatmap", "a/r"});
  EXPECT_THAT(map,
              HasSubstr("  cell: 131072 frames (512M)\nmapped 512.0G of 1T  "));
  EXPECT_THAT(map,
              HasSubstr("\ngfn:0x7800000  " + std::string(64, 'H') +
                        "\ngfn:0x8000000  " + std::string(64, '.') + "\n"));
  EXPECT_EQ(std::count(map.begin(), map.end(), '\n'), 2 + 32 + 1);
}

TEST_F(TdpctlTest, WhereTheDirtyLogIsOnTheConsumersViewIsShown) {
  v1::Memslot slot = MakeMemslot("vms/a/memslots/r", 64, 8);
  slot.set_dirty_log_enabled(true);
  server_.get_memslot.Return(OneMemslot(slot));
  v1::ReadDirtyLogResponse chunk;
  chunk.mutable_dirty()->set_first_gfn(64);
  chunk.mutable_dirty()->set_frame_count(8);
  chunk.mutable_dirty()->set_bits("\x81");
  server_.read_dirty_log.Return({chunk});
  v1::WalkRangeResponse batch = Leaves({64, 65}, 72);
  batch.mutable_sptes(1)->set_dirty(true);  // another consumer's
  server_.walk_range.Return({batch});
  const std::string map = Run({"heatmap", "a/r", "--consumer=backup"});
  EXPECT_THAT(map, HasSubstr("dirty 8.0K by the log of backup\n"));
  EXPECT_THAT(map, HasSubstr("gfn:0x40  DM.....D\n"));
  EXPECT_THAT(server_.read_dirty_log.requests(),
              ElementsAre(EqualsProto(
                  R"pb(memslot: "vms/a/memslots/r"
                       range { start_gfn: 64 end_gfn: 72 }
                       sparse: true
                       consumer: "vms/a/dirtyConsumers/backup")pb")));
  server_.read_dirty_log.Fail(absl::NotFoundError("no such consumer"));
  const Outcome outcome = RunAny({"heatmap", "a/r"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "tdpctl: NOT_FOUND: no such consumer\n");
}

// A VM with the memslots [0, 4), [256, 257) and [512, 516).
class HeatmapOfVmTest : public TdpctlTest {
 protected:
  HeatmapOfVmTest() {
    v1::ListMemslotsResponse list;
    *list.add_memslots() = MakeMemslot("vms/a/memslots/low", 0, 4);
    *list.add_memslots() = MakeMemslot("vms/a/memslots/one", 256, 1);
    *list.add_memslots() = MakeMemslot("vms/a/memslots/top", 512, 4);
    server_.list_memslots.Return(list);
    server_.walk_range.Return({});
  }
};

TEST_F(HeatmapOfVmTest, AVmIsAMapOfEachMemslotAndOneLegend) {
  const std::string map = Run({"heatmap", "a"});
  EXPECT_THAT(map, StartsWith("vms/a/memslots/low  0x0..0x4000"));
  EXPECT_THAT(map, HasSubstr("\ngfn:0x0  ....\nvms/a/memslots/one"));
  EXPECT_THAT(map, HasSubstr("\ngfn:0x100  .\nvms/a/memslots/top"));
  EXPECT_THAT(map, EndsWith("\ngfn:0x200  ....\n" + std::string(kLegend)));
}

TEST_F(HeatmapOfVmTest, ARangeCutsMemslotsAndLeavesOthersOut) {
  const std::string map = Run({"heatmap", "a", "--range=gfn:2..514"});
  EXPECT_THAT(map, HasSubstr("gfn:0x2  ..\n"));
  EXPECT_THAT(map, HasSubstr("gfn:0x200  ..\n"));
  EXPECT_THAT(server_.walk_range.requests(), SizeIs(3));
  EXPECT_THAT(Run({"heatmap", "a", "--range=gfn:514..600"}),
              StartsWith("vms/a/memslots/top"));
  const Outcome outcome = RunAny({"heatmap", "a", "--range=gfn:4..256"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "tdpctl: OUT_OF_RANGE: no frame of 0x4000..0x100000 lies in a "
            "memslot of vms/a\n");
}

TEST_F(HeatmapOfVmTest, AWalkThatBreaksShowsWhatCameBefore) {
  server_.walk_range.Do([](const v1::WalkRangeRequest& request, auto& send) {
    if (request.range().start_gfn() < 512) return absl::OkStatus();
    send(Leaves({512}, 514));
    return absl::UnavailableError("draining");
  });
  Outcome outcome = RunAny({"heatmap", "a"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out,
              EndsWith("\ngfn:0x200  M.??\n" + std::string(kLegend)));
  EXPECT_EQ(outcome.err, "tdpctl: UNAVAILABLE: draining\n");
  outcome = RunAny({"heatmap", "a", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, HasSubstr(R"("reachedGfn":"514")"));
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 3);
  server_.walk_range.Fail(absl::UnavailableError("draining"));
  EXPECT_EQ(RunAny({"heatmap", "a"}).out, "");
}

TEST_F(HeatmapOfVmTest, JsonIsALineForEachMemslot) {
  const std::string json = Run({"heatmap", "a", "--json"});
  EXPECT_THAT(json, StartsWith(R"({"cells":[{"dirtyFrameCount":"0",)"));
  EXPECT_THAT(json, HasSubstr(R"("memslot":"vms/a/memslots/one",)"));
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 3);
}

TEST_F(HeatmapOfVmTest, WatchingShowsABlockForEachRound) {
  const std::string once = Run({"heatmap", "a"});
  EXPECT_EQ(Run({"heatmap", "a", "--watch=1ms", "--count=3"}),
            once + "\n" + once + "\n" + once);
  const std::string json =
      Run({"heatmap", "a", "--watch=1ms", "--count=2", "--json"});
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 6);
}

TEST_F(HeatmapOfVmTest, OnATerminalTheMapsAreRedrawnAndColored) {
  console_.out.size = [] { return TerminalSize(); };
  console_.out.colors = true;
  const std::string text = Run({"heatmap", "a", "--watch=1ms", "--count=2"});
  EXPECT_THAT(text, StartsWith("\x1b[?7l\rvms/a/memslots/low"));
  EXPECT_THAT(text, HasSubstr("gfn:0x0  \x1b[2m....\x1b[0m\x1b[K\n"));
  EXPECT_THAT(text, HasSubstr("\x1b[10A"));  // 3 for each memslot, the legend
  console_.out.colors = false;
  EXPECT_THAT(Run({"heatmap", "a"}), Not(HasSubstr("\x1b")));
}

TEST_F(HeatmapOfVmTest, AWatchEndsWithTheFirstErrorOrWhenNobodyReadsIt) {
  std::atomic<int> walks{0};
  server_.walk_range.Do([&](const v1::WalkRangeRequest&, auto&) {
    return ++walks <= 3 ? absl::OkStatus() : absl::NotFoundError("gone");
  });
  const Outcome outcome = RunAny({"heatmap", "a", "--watch=1ms"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, EndsWith(kLegend));
  EXPECT_EQ(outcome.err, "tdpctl: NOT_FOUND: gone\n");
  server_.walk_range.Return({});
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  out.setstate(std::ios::badbit);  // as after a broken pipe
  EXPECT_EQ(
      RunTdpctl({"heatmap", "a", "--watch=1ms", "--target=" + server_.target()},
                {in, out, err}),
      1);
  EXPECT_EQ(err.str(), "tdpctl: the output could not be written\n");
}

TEST_F(TdpctlTest, AMapFitsItsTerminal) {
  server_.get_memslot.Return(
      OneMemslot(MakeMemslot("vms/a/memslots/r", 0, 1 << 20)));
  server_.walk_range.Return({});
  for (const TerminalSize size :
       {TerminalSize{80, 24}, TerminalSize{200, 60}, TerminalSize{40, 10}}) {
    console_.out.size = [=] { return size; };
    const std::string map = Run({"heatmap", "a/r"});
    EXPECT_LT(std::count(map.begin(), map.end(), '\n'), size.rows);
    const size_t row = map.find("gfn:");
    EXPECT_LE(static_cast<int>(map.find('\n', row) - row), size.columns);
  }
  console_.out.size = [] { return TerminalSize{1, 1}; };
  EXPECT_THAT(Run({"heatmap", "a/r"}), HasSubstr("\ngfn:0x0  ........\n"));
}

TEST_F(TdpctlTest, AWalkForAMapHasAProgressBar) {
  server_.get_memslot.Return(OneMemslot(MakeMemslot("vms/a/memslots/r", 0, 8)));
  std::atomic<int> seconds{0};
  server_.walk_range.Do([&](const v1::WalkRangeRequest&, auto& send) {
    seconds = 2;
    send(Leaves({}, 4));
    return absl::OkStatus();
  });
  console_.err.size = [] { return TerminalSize(); };
  console_.now = [&] { return absl::FromUnixSeconds(seconds.load()); };
  const Outcome outcome = RunAny({"heatmap", "a/r"});
  EXPECT_THAT(outcome.err, HasSubstr("walk [####################...."));
  EXPECT_THAT(outcome.err, EndsWith("\r\x1b[K"));
  EXPECT_THAT(outcome.out, StartsWith("vms/a"));
}

TEST_F(TdpctlTest, AVmWithoutMemslotsHasNoMap) {
  server_.list_memslots.Return({});
  const Outcome outcome = RunAny({"heatmap", "a"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, "tdpctl: OUT_OF_RANGE: vms/a has no memslot\n");
}

}  // namespace
}  // namespace tdp::client
