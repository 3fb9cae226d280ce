// waiting list, resolve and discard.

#include <algorithm>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(TdpctlTest, EveryPageOfTheWaitingAccessesIsListed) {
  server_.list_waiting_accesses.Do(
      [](const v1::ListWaitingAccessesRequest& request,
         v1::ListWaitingAccessesResponse& response) {
        EXPECT_EQ(request.vm(), "vms/demo");
        if (request.page_token().empty()) {
          *response.add_accesses() = Proto<v1::AccessWaiting>(R"pb(
            access_id: 7
            gfn: 1
            access { write: true }
            vcpu_index: 1
            cause: CAUSE_PROTECTION)pb");
          response.set_next_page_token("more");
        } else {
          *response.add_accesses() = Proto<v1::AccessWaiting>(R"pb(
            access_id: 12
            gfn: 256
            access { read: true }
            cause: CAUSE_SOURCE_FAILED
            detail: "disk.img: EIO")pb");
        }
        return absl::OkStatus();
      });
  EXPECT_EQ(Run({"waiting", "list", "demo"}),
            "ID  VCPU  ADDRESS   ACCESS  CAUSE          DETAIL\n"
            " 7     1  0x1000    -w      PROTECTION     -\n"
            "12     0  0x100000  r-      SOURCE_FAILED  disk.img: EIO\n");
  const std::string json = Run({"waiting", "list", "demo", "--json"});
  EXPECT_THAT(json, HasSubstr("\"accessId\":\"7\""));
  EXPECT_THAT(json, HasSubstr("\"accessId\":\"12\""));
  EXPECT_THAT(json, HasSubstr("\"nextPageToken\":\"\"}\n"));
}

TEST_F(TdpctlTest, WhereNothingWaitsTheListIsEmpty) {
  server_.list_waiting_accesses.Return({});
  EXPECT_EQ(Run({"waiting", "list", "demo"}),
            "ID  VCPU  ADDRESS  ACCESS  CAUSE  DETAIL\n");
}

TEST_F(TdpctlTest, AnAccessIsResolvedByEachVerdict) {
  server_.resolve_access.Return({});
  EXPECT_EQ(Run({"resolve", "demo", "7", "grant"}), "granted access 7\n");
  EXPECT_EQ(Run({"resolve", "demo", "8", "RETRY"}), "retried access 8\n");
  EXPECT_EQ(Run({"resolve", "demo", "9", "kill"}),
            "stopped vms/demo, whose access 9 waited\n");
  EXPECT_EQ(Run({"resolve", "demo", "7", "grant", "--json"}), "{}\n");
  EXPECT_THAT(server_.resolve_access.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           access_id: 7
                                           verdict: VERDICT_GRANT)pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           access_id: 8
                                           verdict: VERDICT_RETRY)pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           access_id: 9
                                           verdict: VERDICT_KILL)pb"),
                          EqualsProto(R"pb(vm: "vms/demo"
                                           access_id: 7
                                           verdict: VERDICT_GRANT)pb")));
}

TEST_F(TdpctlTest, DiscardGoesOnUntilTheEndAndSumsUp) {
  server_.discard_range.Do([](const v1::DiscardRangeRequest& request,
                              v1::DiscardRangeResponse& response) {
    response.set_next_gfn(std::min<uint64_t>(
        request.range().end_gfn(), request.range().start_gfn() + 3000));
    response.set_freed_bytes(1 << 20);
    return absl::OkStatus();
  });
  EXPECT_EQ(Run({"discard", "demo", "0..16M"}),
            "discarded 4096 frames (16M); freed 2M\n");
  EXPECT_THAT(server_.discard_range.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           range { start_gfn: 0 end_gfn: 4096 }
                          )pb"),
                          EqualsProto(
                              R"pb(vm: "vms/demo"
                                   range { start_gfn: 3000 end_gfn: 4096 }
                              )pb")));
  EXPECT_EQ(Run({"discard", "demo", "0..4K", "--json"}),
            "{\"nextGfn\":\"1\",\"freedBytes\":\"1048576\"}\n");
}

TEST_F(TdpctlTest, ADiscardThatFreesNothingSaysSo) {
  server_.discard_range.Return(Proto<v1::DiscardRangeResponse>("next_gfn: 1"));
  EXPECT_EQ(Run({"discard", "demo", "0..4K"}),
            "discarded 1 frame (4K), but nothing was freed\n");
}

TEST_F(TdpctlTest, ADiscardThatStopsHalfWaySaysWhatIsDone) {
  server_.discard_range.Do([](const v1::DiscardRangeRequest& request,
                              v1::DiscardRangeResponse& response) {
    if (request.range().start_gfn() > 0) {
      return absl::UnavailableError("draining");
    }
    response.set_next_gfn(256);
    return absl::OkStatus();
  });
  const Outcome outcome = RunAny({"discard", "demo", "0..16M"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "tdpctl: UNAVAILABLE: draining (0x0..0x100000 is done)\n");
}

TEST_F(TdpctlTest, ErrorsAboutAccessesAreShown) {
  const absl::Status error =
      DaemonError(absl::StatusCode::kNotFound, "access 7 does not wait",
                  "ACCESS_NOT_FOUND", {{"accessId", "7"}});
  server_.list_waiting_accesses.Fail(error);
  server_.resolve_access.Fail(error);
  const std::vector<std::string> commands[] = {
      {"waiting", "list", "demo"},
      {"resolve", "demo", "7", "grant"},
  };
  for (const std::vector<std::string>& command : commands) {
    const Outcome outcome = RunAny(command);
    EXPECT_EQ(outcome.exit_code, 1) << command[0];
    EXPECT_EQ(outcome.out, "") << command[0];
    EXPECT_EQ(outcome.err, "tdpctl: NOT_FOUND: access 7 does not wait\n")
        << command[0];
  }
}

}  // namespace
}  // namespace tdp::client
