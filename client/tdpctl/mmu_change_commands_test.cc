// protect, write-protect, split, collapse, age and apply-batch.

#include <algorithm>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Answers a ranged call that does at most `frames` frames; `set` fills in what
// was done.
template <typename Request, typename Response, typename Set>
auto InSteps(uint64_t frames, Set set) {
  return [=](const Request& request, Response& response) {
    const uint64_t next = std::min(request.range().end_gfn(),
                                   request.range().start_gfn() + frames);
    response.set_next_gfn(next);
    set(response);
    return absl::OkStatus();
  };
}

TEST_F(TdpctlTest, ProtectGoesOnUntilTheEndAndSumsUp) {
  server_.protect_range.Do(
      InSteps<v1::ProtectRangeRequest, v1::ProtectRangeResponse>(
          300, [](auto& response) { response.set_changed_spte_count(2); }));
  EXPECT_EQ(Run({"protect", "demo", "0..2M", "--access=read"}),
            "changed 4 entries\n");
  EXPECT_THAT(server_.protect_range.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 512 }
                                           access { read: true })pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 300 end_gfn: 512 }
                                           access { read: true })pb")));
  EXPECT_EQ(Run({"protect", "demo", "0..4K", "--access=read-write", "--json"}),
            R"({"nextGfn":"1","changedSpteCount":"2"})"
            "\n");
}

TEST_F(TdpctlTest, NoAccessIsSentAsOneAndNotLeftOut) {
  server_.protect_range.Return(
      Proto<v1::ProtectRangeResponse>("next_gfn: 1 changed_spte_count: 1"));
  EXPECT_EQ(Run({"protect", "demo", "0..4K", "--access=none"}),
            "changed 1 entry\n");
  EXPECT_THAT(server_.protect_range.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 1 }
                                           access {})pb")));
}

TEST_F(TdpctlTest, WriteProtectGoesOnUntilTheEndAndSumsUp) {
  server_.write_protect_range.Do(
      InSteps<v1::WriteProtectRangeRequest, v1::WriteProtectRangeResponse>(
          256, [](auto& response) { response.set_changed_spte_count(256); }));
  EXPECT_EQ(Run({"write-protect", "demo", "0..2M", "--min-level=2m"}),
            "changed 512 entries\n");
  EXPECT_THAT(server_.write_protect_range.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 512 }
                                           min_level: PAGE_LEVEL_2M)pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 256 end_gfn: 512 }
                                           min_level: PAGE_LEVEL_2M)pb")));
  EXPECT_EQ(Run({"write-protect", "demo", "0..4K", "--json"}),
            R"({"nextGfn":"1","changedSpteCount":"256"})"
            "\n");
}

TEST_F(TdpctlTest, SplitGoesOnUntilTheEndAndSumsUp) {
  server_.split_huge_pages.Do(
      InSteps<v1::SplitHugePagesRequest, v1::SplitHugePagesResponse>(
          512, [](auto& response) { response.set_split_count(1); }));
  EXPECT_EQ(Run({"split", "demo", "0..4M", "--to=4k"}), "split 2 huge pages\n");
  EXPECT_THAT(
      server_.split_huge_pages.requests(),
      ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                   range { start_gfn: 0 end_gfn: 1024 }
                                   target_level: PAGE_LEVEL_4K)pb"),
                  EqualsProto(R"pb(vm: "vms/demo"
                                   range { start_gfn: 512 end_gfn: 1024 }
                                   target_level: PAGE_LEVEL_4K)pb")));
  EXPECT_EQ(Run({"split", "demo", "0..2M", "--to=2M", "--json"}),
            R"({"nextGfn":"512","splitCount":"1"})"
            "\n");
}

TEST_F(TdpctlTest, CollapseGoesOnUntilTheEndAndSumsUp) {
  server_.collapse_huge_pages.Do(
      InSteps<v1::CollapseHugePagesRequest, v1::CollapseHugePagesResponse>(
          512, [](auto& response) { response.set_collapsed_count(1); }));
  EXPECT_EQ(Run({"collapse", "demo", "0..4M", "--max-level=2M"}),
            "collapsed 2 tables\n");
  EXPECT_THAT(
      server_.collapse_huge_pages.requests(),
      ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                   range { start_gfn: 0 end_gfn: 1024 }
                                   max_level: PAGE_LEVEL_2M)pb"),
                  EqualsProto(R"pb(vm: "vms/demo"
                                   range { start_gfn: 512 end_gfn: 1024 }
                                   max_level: PAGE_LEVEL_2M)pb")));
  EXPECT_EQ(Run({"collapse", "demo", "0..2M", "--json"}),
            R"({"nextGfn":"512","collapsedCount":"1"})"
            "\n");
}

TEST_F(TdpctlTest, AgeCountsTheYoungFrames) {
  server_.age_range.Do(InSteps<v1::AgeRangeRequest, v1::AgeRangeResponse>(
      300, [](auto& response) { response.set_young_frame_count(8); }));
  EXPECT_EQ(Run({"age", "demo", "0..2M"}),
            "16 frames (64K) young; their Accessed bits are cleared\n");
  EXPECT_EQ(Run({"age", "demo", "0..4K", "--test-only"}),
            "8 frames (32K) young\n");
  EXPECT_THAT(server_.age_range.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 512 }
                          )pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 300 end_gfn: 512 }
                          )pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 1 }
                                           test_only: true)pb")));
  EXPECT_EQ(Run({"age", "demo", "0..4K", "--json"}),
            R"({"nextGfn":"1","youngFrameCount":"8"})"
            "\n");
}

TEST_F(TdpctlTest, AgeShowsTheRunsOfYoungFramesAcrossCalls) {
  server_.age_range.Do(
      [](const v1::AgeRangeRequest& request, v1::AgeRangeResponse& response) {
        const bool first = request.range().start_gfn() == 64;
        response.set_next_gfn(first ? 72 : 80);
        response.set_young_frame_count(first ? 3 : 2);
        response.mutable_young()->set_first_gfn(64);
        response.mutable_young()->set_frame_count(first ? 8 : 16);
        response.mutable_young()->set_bits(first ? std::string("\xc1")
                                                 : std::string("\0\x03", 2));
        return absl::OkStatus();
      });
  EXPECT_EQ(Run({"age", "demo", "gfn:64..80", "--bitmap"}),
            "5 frames (20K) young; their Accessed bits are cleared\n"
            "\n"
            "YOUNG             FRAMES  SIZE\n"
            "0x40000..0x41000       1    4K\n"
            "0x46000..0x4a000       4   16K\n");
  EXPECT_TRUE(server_.age_range.requests().at(0).bitmap());
  EXPECT_EQ(Run({"age", "demo", "gfn:64..80", "--bitmap", "--json"}),
            R"({"nextGfn":"80","youngFrameCount":"5",)"
            R"("young":{"firstGfn":"64","frameCount":"16","bits":"wQM="}})"
            "\n");
}

TEST_F(TdpctlTest, ALargeBitmapIsAskedForInPieces) {
  server_.age_range.Do(InSteps<v1::AgeRangeRequest, v1::AgeRangeResponse>(
      ~uint64_t{0} >> 1, [](auto& response) { response.mutable_young(); }));
  EXPECT_EQ(Run({"age", "demo", "4K..10G", "--bitmap", "--test-only"}),
            "0 frames (0) young\n");
  const auto requests = server_.age_range.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].range().end_gfn(), 1u << 21)
      << "not inside a huge mapping, which is aged whole";
  EXPECT_EQ(requests[1].range().start_gfn(), 1u << 21);
  EXPECT_EQ(requests[1].range().end_gfn(), 10u << 18);
  // What one call takes is not cut.
  Run({"age", "demo", "4K+8G", "--bitmap", "--test-only"});
  EXPECT_EQ(server_.age_range.requests().size(), 3u);
  EXPECT_EQ(server_.age_range.requests()[2].range().end_gfn(), (1u << 21) + 1);
}

TEST_F(TdpctlTest, ABatchIsOneCallWithItsOperationsInOrder) {
  server_.apply_batch.Return(Proto<v1::ApplyBatchResponse>(
      "changed_spte_count: 7 hold_duration { nanos: 12500 }"));
  EXPECT_EQ(Run({"apply-batch", "demo", "--op", "zap:1M..2M", "--op",
                 "protect:gfn:512..768:read", "--op=write-protect:3M+4K:4K",
                 "--op=map:4M..6M:write:2M"}),
            "changed 7 entries at once; held for 12.5us\n");
  EXPECT_THAT(server_.apply_batch.requests(), ElementsAre(EqualsProto(R"pb(
                vm: "vms/demo"
                operations { zap { range { start_gfn: 256 end_gfn: 512 } } }
                operations {
                  protect {
                    range { start_gfn: 512 end_gfn: 768 }
                    access { read: true }
                  }
                }
                operations {
                  write_protect {
                    range { start_gfn: 768 end_gfn: 769 }
                    min_level: PAGE_LEVEL_4K
                  }
                }
                operations {
                  map {
                    range { start_gfn: 1024 end_gfn: 1536 }
                    max_level: PAGE_LEVEL_2M
                    write: true
                  }
                })pb")));
  EXPECT_EQ(Run({"apply-batch", "demo", "--op=zap:0..4K", "--json"}),
            R"({"changedSpteCount":"7","holdDuration":"0.000012500s"})"
            "\n");
}

TEST_F(TdpctlTest, ErrorsOfTheDaemonAreShown) {
  const absl::Status error = DaemonError(absl::StatusCode::kOutOfRange,
                                         "frame 0x1 lies outside every memslot",
                                         "GFN_NOT_BACKED", {{"gfn", "0x1"}});
  server_.protect_range.Fail(error);
  server_.write_protect_range.Fail(error);
  server_.split_huge_pages.Fail(error);
  server_.collapse_huge_pages.Fail(error);
  server_.age_range.Fail(error);
  server_.apply_batch.Fail(error);
  const std::vector<std::string> commands[] = {
      {"protect", "demo", "0..8K", "--access=read"},
      {"write-protect", "demo", "0..8K"},
      {"split", "demo", "0..8K", "--to=4K"},
      {"collapse", "demo", "0..8K"},
      {"age", "demo", "0..8K"},
      {"apply-batch", "demo", "--op=zap:0..8K"},
  };
  for (const std::vector<std::string>& command : commands) {
    const Outcome outcome = RunAny(command);
    EXPECT_EQ(outcome.exit_code, 1) << command[0];
    EXPECT_EQ(outcome.out, "") << command[0];
    EXPECT_EQ(outcome.err,
              "tdpctl: OUT_OF_RANGE: frame 0x1 lies outside every memslot\n")
        << command[0];
  }
}

TEST_F(TdpctlTest, AnErrorAfterSomeOfAnAgeSaysWhatIsDoneAndWasFound) {
  server_.age_range.Do(
      [](const v1::AgeRangeRequest& request, v1::AgeRangeResponse& response) {
        if (request.range().start_gfn() > 0) {
          return absl::UnavailableError("draining");
        }
        response.set_next_gfn(256);
        response.set_young_frame_count(2);
        if (request.bitmap()) {
          response.mutable_young()->set_frame_count(256);
          response.mutable_young()->set_bits(std::string("\x03"));
        }
        return absl::OkStatus();
      });
  const Outcome outcome = RunAny({"age", "demo", "0..16M", "--bitmap"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out,
            "2 frames (8K) young; their Accessed bits are cleared\n"
            "\n"
            "YOUNG        FRAMES  SIZE\n"
            "0x0..0x2000       2    8K\n");
  EXPECT_THAT(outcome.err, HasSubstr("draining (0x0..0x100000 is done)"));
  const Outcome json = RunAny({"age", "demo", "0..16M", "--json"});
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_EQ(json.out, "{\"nextGfn\":\"256\",\"youngFrameCount\":\"2\"}\n");
  EXPECT_THAT(json.err, HasSubstr("UNAVAILABLE"));
}

}  // namespace
}  // namespace tdp::client
