// dirty read, clear, watch and consumer.

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

v1::ReadDirtyLogResponse Chunk(uint64_t first_gfn, const std::string& bits,
                               int64_t dirty_frame_count) {
  v1::ReadDirtyLogResponse response;
  response.mutable_dirty()->set_first_gfn(first_gfn);
  response.mutable_dirty()->set_frame_count(static_cast<int64_t>(bits.size()) *
                                            8);
  response.mutable_dirty()->set_bits(bits);
  response.set_dirty_frame_count(dirty_frame_count);
  return response;
}

v1::ClearDirtyLogResponse Cleared(int64_t frames) {
  v1::ClearDirtyLogResponse response;
  response.set_cleared_frame_count(frames);
  return response;
}

TEST_F(TdpctlTest, TheDirtyFramesAreCountedAndShownAsRunsAcrossChunks) {
  server_.read_dirty_log.Return(
      {Chunk(0, std::string("\x01\0\0\0\0\0\0\xc0", 8), 3),
       Chunk(64, "\x03", 2)});
  EXPECT_EQ(Run({"dirty", "read", "demo", "ram"}),
            "5 frames (20K) dirty\n"
            "\n"
            "DIRTY             FRAMES  SIZE\n"
            "0x0..0x1000            1    4K\n"
            "0x3e000..0x42000       4   16K\n");
  EXPECT_THAT(server_.read_dirty_log.requests(),
              ElementsAre(EqualsProto(R"pb(memslot: "vms/demo/memslots/ram"
                                           sparse: true)pb")));
  EXPECT_THAT(server_.clear_dirty_log.requests(), IsEmpty());
}

TEST_F(TdpctlTest, NoDirtyFrameIsNoTable) {
  server_.read_dirty_log.Return({});
  EXPECT_EQ(Run({"dirty", "read", "demo", "ram"}), "0 frames (0) dirty\n");
  EXPECT_EQ(Run({"dirty", "read", "demo", "ram", "--json"}), "");
}

TEST_F(TdpctlTest, OnlyFramesOfTheRangeAreShown) {
  server_.read_dirty_log.Return({Chunk(64, "\xff\xff", 16)});
  EXPECT_EQ(
      Run({"dirty", "read", "demo", "ram", "gfn:66..69", "--consumer=backup"}),
      "3 frames (12K) dirty\n"
      "\n"
      "DIRTY             FRAMES  SIZE\n"
      "0x42000..0x45000       3   12K\n");
  EXPECT_THAT(server_.read_dirty_log.requests(),
              ElementsAre(EqualsProto(
                  R"pb(memslot: "vms/demo/memslots/ram"
                       range { start_gfn: 66 end_gfn: 69 }
                       sparse: true
                       consumer: "vms/demo/dirtyConsumers/backup")pb")));
}

TEST_F(TdpctlTest, ADirtyLogInJsonIsOneLineForEachChunk) {
  server_.read_dirty_log.Return({Chunk(0, "\x01", 1), Chunk(64, "\x03", 2)});
  EXPECT_EQ(Run({"dirty", "read", "demo", "ram", "--json"}),
            R"({"dirty":{"firstGfn":"0","frameCount":"8","bits":"AQ=="},)"
            R"("dirtyFrameCount":"1"})"
            "\n"
            R"({"dirty":{"firstGfn":"64","frameCount":"8","bits":"Aw=="},)"
            R"("dirtyFrameCount":"2"})"
            "\n");
}

TEST_F(TdpctlTest, ALogThatBreaksIsShownSoFar) {
  server_.read_dirty_log.Do([](const v1::ReadDirtyLogRequest&, auto& send) {
    send(Chunk(0, "\x01", 1));
    return absl::UnavailableError("draining");
  });
  const Outcome outcome = RunAny({"dirty", "read", "demo", "ram"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("1 frame (4K) dirty\n"));
  EXPECT_EQ(outcome.err, "tdpctl: UNAVAILABLE: draining\n");
}

TEST_F(TdpctlTest, ClearingSendsExactlyTheBitsThatWereRead) {
  server_.read_dirty_log.Return({Chunk(0, "\x81", 2), Chunk(64, "\x03", 2)});
  server_.clear_dirty_log.Return(Cleared(4));
  EXPECT_EQ(Run({"dirty", "clear", "demo", "ram", "--consumer=backup"}),
            "cleared 4 frames (16K)\n");
  const auto streams = server_.clear_dirty_log.requests();
  ASSERT_THAT(streams, SizeIs(1));
  EXPECT_THAT(
      streams[0],
      ElementsAre(EqualsProto(
                      R"pb(memslot: "vms/demo/memslots/ram"
                           dirty { first_gfn: 0 frame_count: 8 bits: "\x81" }
                           consumer: "vms/demo/dirtyConsumers/backup")pb"),
                  EqualsProto(R"pb(dirty {
                                     first_gfn: 64
                                     frame_count: 8
                                     bits: "\x03"
                                   })pb")));
}

TEST_F(TdpctlTest, ClearingARangeLeavesTheOtherBits) {
  server_.read_dirty_log.Return({Chunk(0, "\xff", 8), Chunk(64, "\xff", 8)});
  server_.clear_dirty_log.Return(Cleared(2));
  EXPECT_EQ(Run({"dirty", "clear", "demo", "ram", "gfn:2..4", "--json"}),
            "{\"clearedFrameCount\":\"2\"}\n");
  EXPECT_THAT(
      server_.clear_dirty_log.requests(),
      ElementsAre(ElementsAre(EqualsProto(
          R"pb(memslot: "vms/demo/memslots/ram"
               dirty { first_gfn: 0 frame_count: 8 bits: "\x0c" })pb"))));
}

TEST_F(TdpctlTest, WhereNothingIsDirtyNothingIsCleared) {
  server_.read_dirty_log.Return({});
  EXPECT_EQ(Run({"dirty", "clear", "demo", "ram"}), "cleared 0 frames (0)\n");
  EXPECT_EQ(Run({"dirty", "clear", "demo", "ram", "--json"}),
            "{\"clearedFrameCount\":\"0\"}\n");
  EXPECT_THAT(server_.clear_dirty_log.requests(), IsEmpty());
}

TEST_F(TdpctlTest, ALogThatCouldNotBeReadWholeIsNotCleared) {
  server_.read_dirty_log.Do([](const v1::ReadDirtyLogRequest&, auto& send) {
    send(Chunk(0, "\x01", 1));
    return absl::UnavailableError("draining");
  });
  const Outcome outcome = RunAny({"dirty", "clear", "demo", "ram"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "tdpctl: UNAVAILABLE: draining\n");
  EXPECT_THAT(server_.clear_dirty_log.requests(), IsEmpty());
}

TEST_F(TdpctlTest, ARefusedReadOrClearIsTheDaemonsError) {
  server_.read_dirty_log.Fail(DaemonError(absl::StatusCode::kFailedPrecondition,
                                          "the dirty log is off",
                                          "DIRTY_LOG_OFF", {}));
  for (const char* verb : {"read", "clear", "watch"}) {
    const Outcome outcome = RunAny({"dirty", verb, "demo", "ram"});
    EXPECT_EQ(outcome.exit_code, 1) << verb;
    EXPECT_EQ(outcome.out, "") << verb;
    EXPECT_EQ(outcome.err,
              "tdpctl: FAILED_PRECONDITION: the dirty log is off\n")
        << verb;
  }
  server_.read_dirty_log.Return({Chunk(0, "\x01", 1)});
  server_.clear_dirty_log.Fail(absl::NotFoundError("no such consumer"));
  const Outcome outcome = RunAny({"dirty", "clear", "demo", "ram", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("\"code\":\"NOT_FOUND\""));
}

TEST_F(TdpctlTest, WatchingReadsAndClearsInEachRound) {
  std::atomic<int> rounds{0};
  server_.read_dirty_log.Do([&](const v1::ReadDirtyLogRequest&, auto& send) {
    if (++rounds != 2) send(Chunk(0, "\x03", 2));  // none in the second
    return absl::OkStatus();
  });
  server_.clear_dirty_log.Return(Cleared(2));
  EXPECT_THAT(
      Run({"dirty", "watch", "demo", "ram", "--interval=10ms", "--count=3"}),
      MatchesRegex("SECONDS    FRAMES      SIZE  FRAMES/S     MIB/S\n"
                   "    0\\.0         2        8K         -         -\n"
                   " +[0-9.]+         0         0         0       0\\.0\n"
                   " +[0-9.]+         2        8K +[0-9]+ +[0-9.]+\n"));
  EXPECT_THAT(server_.read_dirty_log.requests(), SizeIs(3));
  EXPECT_THAT(server_.clear_dirty_log.requests(), SizeIs(2));
}

TEST_F(TdpctlTest, WatchingInJsonIsOneLineForEachRound) {
  server_.read_dirty_log.Return({Chunk(0, "\x03", 2)});
  server_.clear_dirty_log.Return(Cleared(2));
  EXPECT_EQ(Run({"dirty", "watch", "demo", "ram", "0..4K", "--interval=1ms",
                 "--count=2", "--json"}),
            "{\"clearedFrameCount\":\"2\"}\n"
            "{\"clearedFrameCount\":\"2\"}\n");
  EXPECT_EQ(server_.clear_dirty_log.requests().at(1).at(0).dirty().bits(),
            "\x01");
}

TEST_F(TdpctlTest, WatchingEndsWithTheFirstError) {
  std::atomic<int> rounds{0};
  server_.read_dirty_log.Do([&](const v1::ReadDirtyLogRequest&, auto&) {
    return ++rounds < 3 ? absl::OkStatus()
                        : absl::NotFoundError("vms/demo does not exist");
  });
  const Outcome outcome =
      RunAny({"dirty", "watch", "demo", "ram", "--interval=1ms"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 3);
  EXPECT_EQ(outcome.err, "tdpctl: NOT_FOUND: vms/demo does not exist\n");
}

TEST_F(TdpctlTest, AConsumerIsCreatedAndDeleted) {
  server_.create_dirty_consumer.Return(Proto<v1::CreateDirtyConsumerResponse>(
      R"pb(dirty_consumer { name: "vms/demo/dirtyConsumers/backup" })pb"));
  EXPECT_EQ(Run({"dirty", "consumer", "create", "demo", "backup"}),
            "NAME\n"
            "vms/demo/dirtyConsumers/backup\n");
  EXPECT_EQ(Run({"dirty", "consumer", "create", "demo", "backup", "--json"}),
            R"({"dirtyConsumer":{"name":"vms/demo/dirtyConsumers/backup"}})"
            "\n");
  EXPECT_THAT(
      server_.create_dirty_consumer.requests().at(0),
      EqualsProto(R"pb(parent: "vms/demo" dirty_consumer_id: "backup")pb"));
  server_.delete_dirty_consumer.Return({});
  EXPECT_EQ(Run({"dirty", "consumer", "delete", "demo", "backup"}),
            "deleted vms/demo/dirtyConsumers/backup\n");
  EXPECT_EQ(Run({"dirty", "consumer", "delete", "demo", "backup", "--json"}),
            "{}\n");
  EXPECT_EQ(server_.delete_dirty_consumer.requests().at(0).name(),
            "vms/demo/dirtyConsumers/backup");
}

TEST_F(TdpctlTest, EveryPageOfTheConsumersIsListed) {
  server_.list_dirty_consumers.Do(
      [](const v1::ListDirtyConsumersRequest& request,
         v1::ListDirtyConsumersResponse& response) {
        EXPECT_EQ(request.parent(), "vms/demo");
        const bool first = request.page_token().empty();
        response.add_dirty_consumers()->set_name(
            first ? "vms/demo/dirtyConsumers/backup"
                  : "vms/demo/dirtyConsumers/default");
        if (first) response.set_next_page_token("more");
        return absl::OkStatus();
      });
  EXPECT_EQ(Run({"dirty", "consumer", "list", "demo"}),
            "NAME\n"
            "vms/demo/dirtyConsumers/backup\n"
            "vms/demo/dirtyConsumers/default\n");
  EXPECT_THAT(Run({"dirty", "consumer", "list", "demo", "--json"}),
              HasSubstr("\"nextPageToken\":\"\"}\n"));
}

TEST_F(TdpctlTest, ErrorsAboutConsumersAreShown) {
  const absl::Status error =
      DaemonError(absl::StatusCode::kAlreadyExists, "it exists already",
                  "RESOURCE_EXISTS", {});
  server_.create_dirty_consumer.Fail(error);
  server_.list_dirty_consumers.Fail(error);
  server_.delete_dirty_consumer.Fail(error);
  const std::vector<std::string> commands[] = {
      {"dirty", "consumer", "create", "demo", "backup"},
      {"dirty", "consumer", "list", "demo"},
      {"dirty", "consumer", "delete", "demo", "backup"},
  };
  for (const std::vector<std::string>& command : commands) {
    const Outcome outcome = RunAny(command);
    EXPECT_EQ(outcome.exit_code, 1) << command[2];
    EXPECT_EQ(outcome.out, "") << command[2];
    EXPECT_EQ(outcome.err, "tdpctl: ALREADY_EXISTS: it exists already\n")
        << command[2];
  }
}

}  // namespace
}  // namespace tdp::client
