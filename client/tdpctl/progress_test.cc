// Progress bars of the commands that may take long.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kErased[] = "\r\x1b[K";
constexpr uint64_t kPieceFrames = 256;  // what a call handles
constexpr absl::Duration kPieceTime = absl::Seconds(2);

// stderr is a terminal, and each piece of a call takes two seconds.
class ProgressTest : public TdpctlTest {
 protected:
  ProgressTest() {
    console_.err.size = [] { return TerminalSize(); };
    console_.now = [this] {
      return absl::FromUnixSeconds(1700000000) + pieces_.load() * kPieceTime;
    };
  }

  // Answers a ranged method a piece at a time.
  template <typename Request, typename Response>
  void AnswerInPieces(FakeUnary<Request, Response>& method) {
    method.Do([this](const Request& request, Response& response) {
      ++pieces_;
      response.set_next_gfn(std::min(request.range().start_gfn() + kPieceFrames,
                                     request.range().end_gfn()));
      return absl::OkStatus();
    });
  }

  std::atomic<int> pieces_{0};
};

TEST_F(ProgressTest, EveryRangedVerbShowsHowFarItIs) {
  AnswerInPieces(server_.map_range);
  AnswerInPieces(server_.zap_range);
  AnswerInPieces(server_.protect_range);
  AnswerInPieces(server_.write_protect_range);
  AnswerInPieces(server_.split_huge_pages);
  AnswerInPieces(server_.collapse_huge_pages);
  AnswerInPieces(server_.age_range);
  AnswerInPieces(server_.discard_range);
  AnswerInPieces(server_.audit_range);
  const std::vector<std::string> commands[] = {
      {"map"},
      {"zap"},
      {"protect", "--access=read"},
      {"write-protect"},
      {"split", "--to=4K"},
      {"collapse"},
      {"age"},
      {"discard"},
      {"audit"},
  };
  for (std::vector<std::string> command : commands) {
    const std::string verb = command[0];
    command.insert(command.end(), {"a", "gfn:256..1280"});
    const Outcome outcome = RunAny(command);
    EXPECT_EQ(outcome.exit_code, 0) << verb;
    EXPECT_THAT(outcome.err, StartsWith(kErased + verb + " [")) << verb;
    EXPECT_THAT(outcome.err, HasSubstr(" 25%  ")) << verb;
    EXPECT_THAT(outcome.err, HasSubstr(" 50%  ")) << verb;
    EXPECT_THAT(outcome.err, HasSubstr("0.5 MiB/s  0:04 left")) << verb;
    EXPECT_THAT(outcome.err, HasSubstr("100%")) << verb;
    EXPECT_THAT(outcome.err, EndsWith(kErased)) << verb;
    EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b"))) << verb;
  }
}

TEST_F(ProgressTest, ABarIsErasedBeforeAnError) {
  server_.map_range.Do([this](const v1::MapRangeRequest& request,
                              v1::MapRangeResponse& response) {
    ++pieces_;
    response.set_next_gfn(request.range().start_gfn() + kPieceFrames);
    return pieces_ < 3 ? absl::OkStatus() : absl::AbortedError("no more");
  });
  const Outcome outcome = RunAny({"map", "a", "0..4M"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err,
              EndsWith(std::string(kErased) +
                       "tdpctl: ABORTED: no more (0x0..0x200000 is done)\n"));
}

TEST_F(ProgressTest, ThereIsNoBarWithoutATerminalOrWithNoProgress) {
  AnswerInPieces(server_.zap_range);
  EXPECT_EQ(Run({"zap", "a", "0..4M", "--no-progress"}),
            "zapped 0 frames (0)\n");
  EXPECT_EQ(Run({"--no-progress", "zap", "a", "0..4M", "--json"}),
            "{\"nextGfn\":\"1024\",\"zappedFrameCount\":\"0\"}\n");
  console_.out = console_.err;
  console_.err = Terminal();
  EXPECT_EQ(Run({"zap", "a", "0..4M"}), "zapped 0 frames (0)\n");
}

TEST_F(ProgressTest, JsonStaysCleanOfTheBar) {
  AnswerInPieces(server_.zap_range);
  const Outcome outcome = RunAny({"zap", "a", "0..4M", "--json"});
  EXPECT_EQ(outcome.out, "{\"nextGfn\":\"1024\",\"zappedFrameCount\":\"0\"}\n");
  EXPECT_THAT(outcome.err, HasSubstr("zap ["));
}

TEST_F(ProgressTest, AnAuditOfEveryMemslotIsOneBar) {
  AnswerInPieces(server_.audit_range);
  server_.list_memslots.Return(Proto<v1::ListMemslotsResponse>(R"pb(
    memslots { base_gfn: 0 frame_count: 512 }
    memslots { base_gfn: 1048576 frame_count: 1536 }
  )pb"));
  const std::string drawn = RunAny({"audit", "a"}).err;
  // Eight pieces in all: the second memslot begins with the third.
  size_t position = 0;
  for (const char* share :
       {" 12%", " 25%", " 37%", " 50%", " 62%", " 75%", " 87%", "100%"}) {
    position = drawn.find(share, position);
    ASSERT_NE(position, std::string::npos) << share;
  }
}

TEST_F(ProgressTest, ReadingAndClearingTheDirtyLogShowWhatTheyCover) {
  server_.read_dirty_log.Do([this](const v1::ReadDirtyLogRequest&, auto& send) {
    for (const uint64_t first : {0, 64, 192}) {
      v1::ReadDirtyLogResponse response;
      response.mutable_dirty()->set_first_gfn(first);
      response.mutable_dirty()->set_frame_count(64);
      response.mutable_dirty()->set_bits(std::string(8, '\xff'));
      ++pieces_;
      send(response);
    }
    return absl::OkStatus();
  });
  server_.clear_dirty_log.Return({});
  // The server may be several pieces ahead of the client: only what holds at
  // any speed is checked.
  Outcome outcome = RunAny({"dirty", "read", "a", "r"});
  EXPECT_THAT(outcome.err, StartsWith(std::string(kErased) + "read "));
  EXPECT_THAT(outcome.err, EndsWith(kErased));
  EXPECT_THAT(outcome.out, StartsWith("192 frames (768K) dirty\n"));
  outcome = RunAny({"dirty", "read", "a", "r", "gfn:0..256"});
  EXPECT_THAT(outcome.err, StartsWith(std::string(kErased) + "read ["));
  outcome = RunAny({"dirty", "clear", "a", "r", "gfn:0..256"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, EndsWith(kErased));
}

TEST_F(ProgressTest, MemoryThatIsSavedHasABarAndMemoryThatIsShownHasNone) {
  server_.read_memory.Do([this](const v1::ReadGuestMemoryRequest&, auto& send) {
    v1::ReadGuestMemoryResponse response;
    response.set_data("abcd");
    pieces_ += 1;
    send(response);
    return absl::OkStatus();
  });
  const std::string path = ::testing::TempDir() + "/progress.bin";
  const Outcome outcome = RunAny({"mem", "read", "a", "0", "4", "-o", path});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("read ["));
  EXPECT_THAT(outcome.err, EndsWith(kErased));
  EXPECT_THAT(RunAny({"mem", "read", "a", "0", "4", "--raw"}).err,
              HasSubstr("read ["));
  Run({"mem", "read", "a", "0", "4"});
  console_.out = console_.err;
  EXPECT_EQ(Run({"mem", "read", "a", "0", "4", "--raw"}), "abcd");
}

TEST_F(ProgressTest, AWriteShowsItsShareWhereTheSizeIsKnown) {
  server_.write_memory.Return({});
  // Each look at the clock is two seconds later.
  console_.now = [this] {
    return absl::FromUnixSeconds(1700000000) + (++pieces_) * kPieceTime;
  };
  const std::string bytes(1 << 20, 'x');
  const std::string path = ::testing::TempDir() + "/progress_input.bin";
  std::ofstream(path, std::ios::binary) << bytes;
  Outcome outcome = RunAny({"mem", "write", "a", "0", "--file=" + path});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("write ["));
  EXPECT_THAT(outcome.err, HasSubstr(" 25%  "));
  EXPECT_THAT(outcome.err, EndsWith(kErased));
  outcome = RunAny({"mem", "write", "a", "0"}, bytes);
  EXPECT_THAT(outcome.err, HasSubstr("write 256.0K"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("%")));
}

}  // namespace
}  // namespace tdp::client
