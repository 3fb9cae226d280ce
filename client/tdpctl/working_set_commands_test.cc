// ws estimate and watch.

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kWorkingSet[] = R"pb(
  working_set {
    scan_time { seconds: 1700000000 }
    buckets {
      min_age {}
      frame_count: 12288
    }
    buckets {
      min_age { seconds: 2 }
      frame_count: 4096
    }
  })pb";

constexpr char kText[] =
    "2023-11-14T22:13:20Z  16384 frames (64.0M)\n"
    "AGE     FRAMES   SIZE  SHARE  WORKING-SET  HISTOGRAM\n"
    "0s..2s   12288  48.0M  75.0%  < 2s: 48.0M  "
    "|########################################\n"
    "2s..      4096  16.0M  25.0%   all: 64.0M  |#############\n";

constexpr char kJson[] = R"({"workingSet":{"buckets":[)"
                         R"({"frameCount":"12288","minAge":"0s"},)"
                         R"({"frameCount":"4096","minAge":"2s"}],)"
                         R"("scanTime":"2023-11-14T22:13:20Z"}})"
                         "\n";

v1::WatchWorkingSetResponse Scan() {
  return Proto<v1::WatchWorkingSetResponse>(kWorkingSet);
}

TEST_F(TdpctlTest, AnEstimateIsAHistogram) {
  server_.estimate_working_set.Return(
      Proto<v1::EstimateWorkingSetResponse>(kWorkingSet));
  EXPECT_EQ(Run({"ws", "estimate", "demo"}), kText);
  EXPECT_EQ(Run({"ws", "estimate", "demo", "--json"}), kJson);
  EXPECT_THAT(server_.estimate_working_set.requests().at(0),
              EqualsProto(R"pb(vm: "vms/demo")pb"));
}

TEST_F(TdpctlTest, AWatchedWorkingSetIsABlockForEachScan) {
  server_.watch_working_set.Return({Scan(), Scan()});
  EXPECT_EQ(Run({"ws", "watch", "demo", "--interval=1500ms"}),
            std::string(kText) + "\n" + kText);
  EXPECT_THAT(server_.watch_working_set.requests(),
              ElementsAre(EqualsProto(
                  R"pb(vm: "vms/demo"
                       interval { seconds: 1 nanos: 500000000 })pb")));
  EXPECT_EQ(Run({"ws", "watch", "demo", "--json"}), std::string(kJson) + kJson);
  EXPECT_THAT(server_.watch_working_set.requests().at(1),
              EqualsProto(R"pb(vm: "vms/demo"
                               interval { seconds: 1 })pb"));
}

TEST_F(TdpctlTest, OnATerminalTheHistogramIsRedrawnAndFitsIt) {
  // As the daemon's: 19 buckets.
  v1::WatchWorkingSetResponse scan = Scan();
  scan.mutable_working_set()->clear_buckets();
  for (int64_t ms = 0; ms <= 100 << 17; ms = ms == 0 ? 100 : 2 * ms) {
    auto* const bucket = scan.mutable_working_set()->add_buckets();
    bucket->set_frame_count(12288);
    bucket->mutable_min_age()->set_seconds(ms / 1000);
    bucket->mutable_min_age()->set_nanos(static_cast<int>(ms % 1000) * 1000000);
  }
  ASSERT_EQ(scan.working_set().buckets_size(), 19);
  server_.watch_working_set.Return({scan, scan});
  constexpr size_t kColumns = 80;
  console_.out.size = [] { return TerminalSize{kColumns, 24}; };
  const std::string text = Run({"ws", "watch", "demo"});
  EXPECT_THAT(text, StartsWith("\x1b[?7l\r2023-11-14"));
  EXPECT_THAT(text, HasSubstr("\x1b[21A"));  // up by the lines of a block
  EXPECT_THAT(text, HasSubstr("|########"));
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StrContains(line, "2023-11-14")) continue;  // after codes
    EXPECT_LE(line.substr(0, line.find("\x1b[K")).size(), kColumns) << line;
  }
  EXPECT_THAT(text, Not(HasSubstr("\n\n")));
  EXPECT_THAT(Run({"ws", "watch", "demo", "--json"}), Not(HasSubstr("\x1b")));
}

TEST_F(TdpctlTest, ACountEndsAWatchThatWouldGoOn) {
  server_.watch_working_set.Do(
      [](const v1::WatchWorkingSetRequest&, auto& send) {
        while (send(Scan())) {
        }
        return absl::OkStatus();
      });
  const std::string json = Run({"ws", "watch", "demo", "--count=3", "--json"});
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 3);
}

TEST_F(TdpctlTest, AWatchEndsWhenNobodyReadsIt) {
  server_.watch_working_set.Do(
      [](const v1::WatchWorkingSetRequest&, auto& send) {
        while (send(Scan())) {
        }
        return absl::OkStatus();
      });
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  out.setstate(std::ios::badbit);  // as after a broken pipe
  EXPECT_EQ(RunTdpctl({"ws", "watch", "demo", "--target=" + server_.target()},
                      {in, out, err}),
            1);
  EXPECT_EQ(err.str(), "tdpctl: the output could not be written\n");
}

TEST_F(TdpctlTest, AWatchThatBreaksHasShownWhatCameBefore) {
  server_.watch_working_set.Do(
      [](const v1::WatchWorkingSetRequest&, auto& send) {
        send(Scan());
        return absl::UnavailableError("draining");
      });
  Outcome outcome = RunAny({"ws", "watch", "demo"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, kText);
  EXPECT_EQ(outcome.err, "tdpctl: UNAVAILABLE: draining\n");
  server_.estimate_working_set.Fail(absl::NotFoundError("no such VM"));
  outcome = RunAny({"ws", "estimate", "demo"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "tdpctl: NOT_FOUND: no such VM\n");
}

}  // namespace
}  // namespace tdp::client
