// map, zap, zap-all, walk, audit and stats.

#include <algorithm>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::Spte Leaf(uint64_t gfn) {
  v1::Spte spte = Proto<v1::Spte>(R"pb(
    level: PAGE_LEVEL_4K
    present: true
    leaf: true
    access { read: true write: true }
    accessed: true
    dirty: true
    host_writable: true
    mmu_writable: true)pb");
  spte.set_base_gfn(gfn);
  spte.set_pfn(0x40000 + gfn);
  spte.set_raw(0x0600000000000b77 | (spte.pfn() << 12));
  return spte;
}

v1::Spte TableEntry(v1::PageLevel level, uint64_t gfn) {
  v1::Spte spte;
  spte.set_level(level);
  spte.set_base_gfn(gfn);
  spte.set_present(true);
  spte.set_raw(0x7f0000000807);
  return spte;
}

v1::Spte None(v1::PageLevel level, uint64_t gfn) {
  v1::Spte spte;
  spte.set_level(level);
  spte.set_base_gfn(gfn);
  spte.set_raw(uint64_t{1} << 63);
  return spte;
}

TEST_F(TdpctlTest, MapGoesOnUntilTheEndAndSumsUp) {
  server_.map_range.Do(
      [](const v1::MapRangeRequest& request, v1::MapRangeResponse& response) {
        const uint64_t next = std::min<uint64_t>(
            request.range().end_gfn(), request.range().start_gfn() + 3000);
        response.set_next_gfn(next);
        response.set_mapped_frame_count(next - request.range().start_gfn());
        return absl::OkStatus();
      });
  EXPECT_EQ(Run({"map", "demo", "0..16M", "--write", "--max-level=2M"}),
            "mapped 4096 frames (16M)\n");
  EXPECT_THAT(
      server_.map_range.requests(),
      ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                   range { start_gfn: 0 end_gfn: 4096 }
                                   max_level: PAGE_LEVEL_2M
                                   write: true)pb"),
                  EqualsProto(R"pb(vm: "vms/demo"
                                   range { start_gfn: 3000 end_gfn: 4096 }
                                   max_level: PAGE_LEVEL_2M
                                   write: true)pb")));
  EXPECT_EQ(Run({"map", "demo", "0..16M", "--json"}),
            R"({"nextGfn":"4096","mappedFrameCount":"4096"})"
            "\n");
}

TEST_F(TdpctlTest, AnErrorHalfWaySaysWhatIsDone) {
  server_.map_range.Do(
      [](const v1::MapRangeRequest& request, v1::MapRangeResponse& response) {
        if (request.range().start_gfn() > 0) {
          return DaemonError(absl::StatusCode::kResourceExhausted,
                             "no page tables left", "PAGE_TABLE_LIMIT", {});
        }
        response.set_next_gfn(256);
        return absl::OkStatus();
      });
  const Outcome outcome = RunAny({"map", "demo", "0..16M"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "tdpctl: RESOURCE_EXHAUSTED: no page tables left "
            "(0x0..0x100000 is done)\n");
}

TEST_F(TdpctlTest, ZapCountsTheFrames) {
  server_.zap_range.Return(
      Proto<v1::ZapRangeResponse>("next_gfn: 0x101 zapped_frame_count: 1"));
  EXPECT_EQ(Run({"zap", "demo", "1M+4K"}), "zapped 1 frame (4K)\n");
  EXPECT_THAT(server_.zap_range.requests(),
              ElementsAre(EqualsProto(
                  R"pb(vm: "vms/demo"
                       range { start_gfn: 0x100 end_gfn: 0x101 })pb")));
}

TEST_F(TdpctlTest, ZapAllTellsTheRoots) {
  server_.zap_all.Return(Proto<v1::ZapAllResponse>("root_count: 1"));
  EXPECT_EQ(Run({"zap-all", "demo"}), "invalidated 1 root\n");
  EXPECT_EQ(Run({"zap-all", "demo", "--wait"}),
            "invalidated 1 root; the old tables are freed\n");
  EXPECT_EQ(Run({"zap-all", "demo", "--json"}), "{\"rootCount\":1}\n");
  EXPECT_TRUE(server_.zap_all.requests().at(1).wait());
}

TEST_F(TdpctlTest, WalkingAFrameShowsThePath) {
  v1::WalkGfnResponse path;
  *path.add_sptes() = TableEntry(v1::PAGE_LEVEL_512G, 0);
  *path.add_sptes() = TableEntry(v1::PAGE_LEVEL_1G, 0);
  *path.add_sptes() = TableEntry(v1::PAGE_LEVEL_2M, 0);
  *path.add_sptes() = Leaf(0x100);
  server_.walk_gfn.Return(path);
  EXPECT_EQ(
      Run({"walk", "demo", "0x100abc"}),
      "LEVEL  ADDRESSES           STATE  ACCESS  PFN      BITS       ENTRY\n"
      "512G   0x0..0x8000000000   table  -       -        -          "
      "0x00007f0000000807\n"
      "1G     0x0..0x40000000     table  -       -        -          "
      "0x00007f0000000807\n"
      "2M     0x0..0x200000       table  -       -        -          "
      "0x00007f0000000807\n"
      "4K     0x100000..0x101000  leaf   rw      0x40100  A D HW MW  "
      "0x0600000040100b77\n");
  EXPECT_EQ(server_.walk_gfn.requests().at(0).gfn(), 0x100u);
}

TEST_F(TdpctlTest, WalkingARangeFoldsRunsAcrossBatches) {
  std::vector<v1::WalkRangeResponse> batches(2);
  *batches[0].add_sptes() = TableEntry(v1::PAGE_LEVEL_2M, 0);
  for (uint64_t gfn = 0; gfn < 256; ++gfn) *batches[0].add_sptes() = Leaf(gfn);
  for (uint64_t gfn = 256; gfn < 512; ++gfn) {
    *batches[1].add_sptes() = Leaf(gfn);
  }
  *batches[1].add_sptes() = None(v1::PAGE_LEVEL_2M, 512);
  *batches[1].add_sptes() = None(v1::PAGE_LEVEL_2M, 1024);
  server_.walk_range.Return(batches);
  EXPECT_EQ(
      Run({"walk", "demo", "0..6M", "--leaves", "--present", "--min-level=2M"}),
      "LEVEL     ADDRESSES                 ENTRIES  STATE  ACCESS  PFN"
      "      BITS\n"
      "2M        0x0..0x200000                   1  table  -       -"
      "        -\n"
      " 4K       0x0..0x200000                 512  leaf   rw      "
      "0x40000  A D HW MW\n"
      "2M        0x200000..0x600000              2  none   -       -"
      "        -\n");
  EXPECT_THAT(server_.walk_range.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 1536 }
                                           min_level: PAGE_LEVEL_2M
                                           leaves_only: true
                                           present_only: true)pb")));
}

TEST_F(TdpctlTest, AWalkInJsonIsOneLineForEachBatch) {
  std::vector<v1::WalkRangeResponse> batches(2);
  batches[0].set_next_gfn(10);
  batches[1].set_next_gfn(20);
  server_.walk_range.Return(batches);
  EXPECT_EQ(Run({"walk", "demo", "gfn:0..20", "--json"}),
            "{\"sptes\":[],\"nextGfn\":\"10\"}\n"
            "{\"sptes\":[],\"nextGfn\":\"20\"}\n");
}

TEST_F(TdpctlTest, AWalkThatBreaksShowsWhatCame) {
  server_.walk_range.Do([](const v1::WalkRangeRequest&, auto& send) {
    v1::WalkRangeResponse batch;
    *batch.add_sptes() = Leaf(0);
    send(batch);
    return absl::UnavailableError("draining");
  });
  const Outcome outcome = RunAny({"walk", "demo", "0..1M"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("0x0..0x1000"));
  EXPECT_EQ(outcome.err, "tdpctl: UNAVAILABLE: draining\n");
}

TEST_F(TdpctlTest, AWalkThatFailsAtOncePrintsNoTable) {
  server_.walk_range.Fail(absl::NotFoundError("vms/demo does not exist"));
  const Outcome outcome = RunAny({"walk", "demo", "0..1M"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(TdpctlTest, AnAuditTakesEveryMemslot) {
  server_.list_memslots.Return(Proto<v1::ListMemslotsResponse>(R"pb(
    memslots { base_gfn: 0 frame_count: 16 }
    memslots { base_gfn: 0x1000 frame_count: 32 })pb"));
  server_.audit_range.Do([](const v1::AuditRangeRequest& request,
                            v1::AuditRangeResponse& response) {
    response.set_next_gfn(request.range().end_gfn());
    response.set_compared_frame_count(request.range().end_gfn() -
                                      request.range().start_gfn());
    response.set_host_stricter_frame_count(1);
    return absl::OkStatus();
  });
  EXPECT_EQ(Run({"audit", "demo"}),
            "compared 48 frames: 0 divergent, 2 stricter on the host\n");
  EXPECT_EQ(Run({"audit", "demo", "0..64K", "--json"}),
            R"({"nextGfn":"16","comparedFrameCount":"16",)"
            R"("divergentFrameCount":"0","divergences":[],)"
            R"("hostStricterFrameCount":"1"})"
            "\n");
}

TEST_F(TdpctlTest, AnAuditOfAVmWithoutMemslotsIsClean) {
  server_.list_memslots.Return({});
  EXPECT_EQ(Run({"audit", "demo"}),
            "compared 0 frames: 0 divergent, 0 stricter on the host\n");
}

TEST_F(TdpctlTest, DivergentFramesAreShownAndFail) {
  v1::AuditRangeResponse response;
  response.set_next_gfn(16);
  response.set_compared_frame_count(16);
  response.set_divergent_frame_count(1);
  v1::Divergence& divergence = *response.add_divergences();
  divergence.set_gfn(2);
  *divergence.mutable_engine() = None(v1::PAGE_LEVEL_4K, 2);
  divergence.set_host_present(true);
  server_.audit_range.Return(response);
  const Outcome outcome = RunAny({"audit", "demo", "0..64K"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out,
            "compared 16 frames: 1 divergent, 0 stricter on the host\n"
            "\n"
            "ADDRESS  LEVEL  ENGINE  ACCESS  HOST\n"
            "0x2000   4K     none    -       r-\n");
  EXPECT_EQ(outcome.err,
            "tdpctl: the host grants more than the tables on 1 frame\n");
}

TEST_F(TdpctlTest, StatisticsHaveTheNamesOfTheApi) {
  server_.get_vm_stats.Return(Proto<v1::GetVmStatsResponse>(R"pb(
    stats {
      leaf_4k_count: 224
      page_table_bytes: 16384
      fault_fixed_count: 224
      fault_outcomes {
        outcome: "fixed"
        fault_count: 224
        latency_us_log2_counts: [ 0, 0, 0, 0, 0, 200, 24 ]
      }
    })pb"));
  const std::string text = Run({"stats", "demo"});
  EXPECT_THAT(text, HasSubstr("leaf_4k_count                  224\n"));
  EXPECT_THAT(text, HasSubstr("page_table_bytes               16K\n"));
  EXPECT_THAT(text, HasSubstr("yield_count                      0\n"));
  EXPECT_THAT(text, HasSubstr("FAULTS  COUNT  P50 <=  P99 <=  MAX <=\n"
                              "fixed     224   32 us   64 us   64 us\n"));
  EXPECT_THAT(Run({"stats", "demo", "--json"}),
              HasSubstr("\"faultFixedCount\":\"224\""));
}

TEST_F(TdpctlTest, WatchedStatisticsAreABlockForEachSample) {
  const auto sample =
      Proto<v1::WatchVmStatsResponse>(R"pb(stats { leaf_4k_count: 224 })pb");
  server_.watch_vm_stats.Return({sample, sample, sample});
  const std::string text =
      Run({"stats", "demo", "--watch", "--interval=1500ms", "--count=2"});
  EXPECT_THAT(text, HasSubstr("leaf_4k_count                  224\n"));
  EXPECT_THAT(text, HasSubstr("\n\nSTATISTIC"));
  EXPECT_EQ(text.find("STATISTIC", text.find("\n\nSTATISTIC") + 3),
            std::string::npos)
      << "two blocks, not three";
  EXPECT_THAT(server_.watch_vm_stats.requests().at(0),
              EqualsProto(R"pb(vm: "vms/demo"
                               interval { seconds: 1 nanos: 500000000 })pb"));
  EXPECT_NE(RunAny({"stats", "demo", "--count=2"}).exit_code, 0);
  EXPECT_THAT(Run({"stats", "demo", "--watch", "--json"}),
              HasSubstr("\"leaf4kCount\":\"224\""));
}

}  // namespace
}  // namespace tdp::client
