#include "client/tdpbench/command_line.h"

#include <sstream>

#include "absl/time/clock.h"
#include "client/testing/fake_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    v1::WalkGfnResponse walked;
    walked.add_sptes();
    server_.walk_gfn.Return(walked);
    v1::MapRangeResponse mapped;
    mapped.set_mapped_frame_count(1);
    server_.map_range.Return(mapped);
  }

  // A short run: it makes a call or more, however busy the machine is.
  int Run(std::vector<std::string> arguments) {
    out_.str("");
    err_.str("");
    arguments.insert(arguments.end(), {"demo", "--target=" + server_.target(),
                                       "--warm_up=0", "--duration=100ms"});
    return RunTdpbench(arguments, out_, err_);
  }

  FakeServer server_;
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(CommandLineTest, WalksRandomFramesOfTheVm) {
  EXPECT_EQ(Run({"--frames=16"}), 0) << err_.str();
  const auto requests = server_.walk_gfn.requests();
  ASSERT_FALSE(requests.empty());
  for (const auto& request : requests) {
    EXPECT_EQ(request.vm(), "vms/demo");
    EXPECT_LT(request.gfn(), 16u);
  }
  EXPECT_THAT(out_.str(), HasSubstr("walk_gfn"));
  EXPECT_THAT(out_.str(), HasSubstr("errors      0"));
  EXPECT_THAT(out_.str(), HasSubstr("daemon CPU  0.")) << "the test is it";
}

TEST_F(CommandLineTest, MixesOperations) {
  EXPECT_EQ(Run({"--mix=walk_gfn=1,map=1", "--in_flight=4", "--connections=2",
                 "--json"}),
            0)
      << err_.str();
  const auto maps = server_.map_range.requests();
  EXPECT_FALSE(server_.walk_gfn.requests().empty());
  ASSERT_FALSE(maps.empty());
  EXPECT_EQ(maps[0].range().end_gfn(), maps[0].range().start_gfn() + 1);
  EXPECT_THAT(out_.str(), HasSubstr("\"map\":{\"fromIntended\":{\"count\":"));
}

TEST_F(CommandLineTest, AnOpenLoopSendsAsManyCallsAsItsRateSays) {
  EXPECT_EQ(Run({"--rate=200"}), 0) << err_.str();
  EXPECT_THAT(server_.walk_gfn.requests(), SizeIs(20));
}

TEST_F(CommandLineTest, ReadsStreamsToTheirEnd) {
  server_.walk_range.Return({v1::WalkRangeResponse(), v1::WalkRangeResponse()});
  EXPECT_EQ(Run({"--mix=walk_range", "--frames=4096", "--batch=64"}), 0)
      << err_.str();
  const auto requests = server_.walk_range.requests();
  ASSERT_FALSE(requests.empty());
  EXPECT_LE(requests[0].range().end_gfn() - requests[0].range().start_gfn(),
            64u);
}

TEST_F(CommandLineTest, CountsErrorsByTheirCode) {
  server_.walk_gfn.Fail(DaemonError(absl::StatusCode::kNotFound,
                                    "vms/demo does not exist",
                                    "RESOURCE_NOT_FOUND", {}));
  EXPECT_EQ(Run({}), 1);
  EXPECT_THAT(out_.str(), HasSubstr("NOT_FOUND "));
  EXPECT_THAT(err_.str(), HasSubstr("vms/demo does not exist"));
  EXPECT_EQ(Run({"--max_error_rate=1"}), 0) << "allowed";
  EXPECT_EQ(Run({"--max_error_rate=0.5"}), 3);
  EXPECT_THAT(err_.str(), HasSubstr("the error rate is 1"));
}

TEST_F(CommandLineTest, ABrokenThresholdHasAStatusOfItsOwn) {
  EXPECT_EQ(Run({"--max_p99=1m"}), 0) << err_.str();
  EXPECT_EQ(Run({"--max_p99=1ns"}), 3);
  EXPECT_THAT(err_.str(), HasSubstr("at most 1ns is allowed"));
  EXPECT_EQ(Run({"--min_rate=1000000000"}), 3);
}

TEST_F(CommandLineTest, TheRateIsNotThatOfTheWaitForAStuckCall) {
  server_.walk_gfn.Do([](const v1::WalkGfnRequest&, v1::WalkGfnResponse& out) {
    absl::SleepFor(absl::Milliseconds(300));
    out.add_sptes();
    return absl::OkStatus();
  });
  // The one call is answered after the end.
  EXPECT_EQ(Run({"--json"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("\"elapsedSeconds\":0.100,\"okCount\":1,"
                                    "\"okPerSecond\":0.0,"));
}

TEST_F(CommandLineTest, RefusesWhatCannotBeMeant) {
  EXPECT_EQ(Run({"--mix=nothing"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("no operation \"nothing\""));
  EXPECT_EQ(Run({"--max_p99=soon"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("--max_p99"));
  EXPECT_EQ(Run({"--rate=-1"}), 2);
  EXPECT_EQ(Run({"--in_flight=0"}), 2);
  EXPECT_EQ(Run({"--insecure", "--tls_ca=file"}), 2);
  EXPECT_EQ(RunTdpbench({}, out_, err_), 2) << "no VM";
}

TEST_F(CommandLineTest, HelpHasExamples) {
  EXPECT_EQ(RunTdpbench({"--help"}, out_, err_), 0);
  EXPECT_THAT(out_.str(), HasSubstr("--max_p99=2ms"));
}

}  // namespace
}  // namespace tdp::client
