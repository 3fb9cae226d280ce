// What all commands share: usage, the target, deadlines and errors.

#include "client/tdpctl/command_line.h"

#include <stdlib.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

TEST_F(TdpctlTest, HelpIsAnOutputAndNoError) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {"--help"}, {"vm", "--help"}, {"map", "-h"}}) {
    const Outcome outcome = RunWith(args);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("Usage: tdpctl"));
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_THAT(RunWith({"map", "--help"}).out, HasSubstr("--max-level"));
}

TEST_F(TdpctlTest, EachBadCommandLineIsRefusedBeforeAnyCall) {
  const struct {
    std::vector<std::string> args;
    const char* sentence;
  } cases[] = {
      {{}, "a command is missing"},
      {{"vm"}, "a command is missing"},
      {{"foo"}, "\"foo\" is no command"},
      {{"vm", "foo"}, "\"foo\" is no command"},
      {{"vm", "get"}, "VM is required"},
      {{"vm", "get", "a", "b"}, "not expected: b"},
      {{"vm", "list", "--bogus"}, "not expected: --bogus"},
      {{"vm", "create", "a", "--vcpus=x"}, "--vcpus"},
      {{"vm", "create", "a", "--label=x"}, "\"x\" is no label"},
      {{"vm", "create", "a", "--hypervisor=xen"},
       "\"xen\" is none of kvm|software"},
      {{"vm", "create", "a", "--table-limit=1X"}, "\"1X\" is no number"},
      {{"slot", "create", "a", "r", "--size=4K"}, "--base is required"},
      {{"slot", "create", "a", "r", "--base=1", "--size=4K"},
       "--base: \"1\" is not 4K aligned"},
      {{"slot", "create", "a", "r", "--base=0", "--size=0"}, "is empty"},
      {{"map", "a"}, "RANGE is required"},
      {{"map", "a", "4K..4K"}, "RANGE: \"4K..4K\" is empty"},
      {{"zap", "a", "8K..4K"}, "ends before it starts"},
      {{"map", "a", "0..99999999T"}, "does not fit into 64 bits"},
      {{"map", "a", "0..4K", "--max-level=1G"}, "\"1G\" is none of 4K|2M"},
      {{"protect", "a", "0..4K"}, "--access is required"},
      {{"protect", "a", "0..4K", "--access=write"},
       "--access: \"write\" is none of none|read|read-write"},
      {{"protect", "a", "--access=read"}, "RANGE is required"},
      {{"write-protect", "a", "0..4K", "--min-level=512G"},
       "\"512G\" is none of 4K|2M|1G"},
      {{"split", "a", "0..4K"}, "--to is required"},
      {{"split", "a", "0..4K", "--to=1G"}, "\"1G\" is none of 4K|2M"},
      {{"collapse", "a", "0..4K", "--max-level=4K"}, "\"4K\" is none of 2M|1G"},
      {{"age", "a", "4K"}, "RANGE: \"4K\" is no range"},
      {{"apply-batch", "a"}, "--op is required"},
      {{"apply-batch", "--op=zap:0..4K"}, "VM is required"},
      {{"apply-batch", "a", "--op=zap:0..4K", "--op=map"},
       "--op: \"map\" has no range; write map:RANGE[:write][:MAX-LEVEL]"},
      {{"apply-batch", "a", "--op=map:0..1G:1G"},
       "has \"1G\", which is none of write|4K|2M"},
      {{"slot", "update", "a", "r", "--dirty-log=maybe"},
       "\"maybe\" is none of on|off"},
      {{"slot", "update", "a", "r", "--dirty-mode=harvest"},
       "not expected: --dirty-mode=harvest"},
      {{"slot", "create", "a", "r", "--base=0", "--size=4K",
        "--dirty-mode=guess"},
       "\"guess\" is none of write-protect|harvest"},
      {{"dirty"}, "a command is missing"},
      {{"dirty", "consumer"}, "a command is missing"},
      {{"dirty", "consumer", "foo"}, "\"foo\" is no command"},
      {{"dirty", "read", "a"}, "SLOT is required"},
      {{"dirty", "clear", "a", "r", "4K"}, "RANGE: \"4K\" is no range"},
      {{"dirty", "watch", "a", "r", "--interval=0"}, "\"0\" is not positive"},
      {{"dirty", "watch", "a", "r", "--count=0"}, "\"0\" is no number above 0"},
      {{"dirty", "consumer", "create", "a"}, "CONSUMER is required"},
      {{"discard", "a"}, "RANGE is required"},
      {{"ws"}, "a command is missing"},
      {{"heatmap"}, "WHERE is required"},
      {{"heatmap", "a/r", "--width=0"}, "\"0\" is not in 1..1024"},
      {{"heatmap", "a/r", "--width=1025"}, "\"1025\" is not in 1..1024"},
      {{"heatmap", "a/r", "--range=4K"}, "\"4K\" is no range"},
      {{"heatmap", "a/r", "--watch=0"}, "\"0\" is not positive"},
      {{"heatmap", "a/r", "--count=2"}, "--count requires --watch"},
      {{"ws", "estimate"}, "VM is required"},
      {{"ws", "watch", "a", "--interval=0"}, "\"0\" is not positive"},
      {{"ws", "watch", "a", "--count=0"}, "\"0\" is no number above 0"},
      {{"waiting"}, "a command is missing"},
      {{"resolve", "a", "7"}, "VERDICT is required"},
      {{"resolve", "a", "x", "grant"}, "ACCESS_ID: \"x\" is no whole number"},
      {{"resolve", "a", "7", "allow"},
       "VERDICT: \"allow\" is none of grant|retry|kill"},
      {{"vm", "update", "a"}, "labels"},
      {{"vm", "update", "a", "--no-labels", "--label=a=b"}, "labels"},
      {{"vm", "update", "a", "--label=x"}, "\"x\" is no label"},
      {{"slot", "update", "a", "r", "--read-only=yes"},
       "\"yes\" is none of on|off"},
      {{"slot", "update", "a", "r", "--read-only"}, "--read-only"},
      {{"slot", "update", "a", "r", "--base=1"}, "is not 4K aligned"},
      {{"slot", "update", "a"}, "SLOT is required"},
      {{"walk", "a", "nowhere"}, "WHERE: \"nowhere\" is no number"},
      {{"guest", "touch", "a"}, "--range is required"},
      {{"events", "a", "--count=0"}, "\"0\" is no number above 0"},
      {{"mem", "read", "a", "0", "0"}, "at least one byte"},
      {{"info", "--timeout=soon"}, "\"soon\" is no time"},
      {{"info", "--timeout=0"}, "\"0\" is not positive"},
      {{"info", "--timeout=-1s"}, "\"-1s\" is not positive"},
      {{"info", "--retries=-1"}, "\"-1\" is not in 0..1000000"},
      {{"info", "--retries=1000001"}, "\"1000001\" is not in 0..1000000"},
      {{"info", "--retries=2147483647"}, "is not in 0..1000000"},
      {{"info", "--timeout=nan"}, "\"nan\" is no"},
  };
  for (const auto& c : cases) {
    const Outcome outcome = RunWith(c.args);
    EXPECT_EQ(outcome.exit_code, 2) << c.sentence;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, testing::StartsWith("tdpctl: "));
    EXPECT_THAT(outcome.err, HasSubstr(c.sentence));
    EXPECT_THAT(outcome.err, HasSubstr("--help"));
  }
}

TEST_F(TdpctlTest, ATargetThatCannotWorkIsAUsageError) {
  EXPECT_THAT(RunWith({"info", "--target=nowhere"}).err,
              HasSubstr("neither unix:PATH nor HOST:PORT"));
  EXPECT_THAT(RunWith({"info", "--target=10.0.0.1:1", "--insecure"}).err,
              HasSubstr("loopback"));
  const Outcome outcome =
      RunWith({"info", "--target=h:1", "--tls-ca=/nowhere.pem"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("cannot read /nowhere.pem"));
}

TEST_F(TdpctlTest, AVmMayHaveTheNameOfACommand) {
  server_.zap_range.Return(Proto<v1::ZapRangeResponse>("next_gfn: 1"));
  Run({"zap", "map", "0..4K"});
  EXPECT_EQ(server_.zap_range.requests().at(0).vm(), "vms/map");
  server_.delete_vm.Return({});
  Run({"vm", "delete", "list"});
  EXPECT_EQ(server_.delete_vm.requests().at(0).name(), "vms/list");
}

TEST_F(TdpctlTest, TheTargetMayComeFromTheEnvironment) {
  server_.get_info.Return({});
  setenv("TDPD_TARGET", server_.target().c_str(), 1);
  EXPECT_EQ(RunWith({"info"}).exit_code, 0);
  EXPECT_EQ(RunWith({"info", "--target=unix:/nowhere"}).exit_code, 1);
  unsetenv("TDPD_TARGET");
}

TEST_F(TdpctlTest, AnAbsentDaemonIsAnErrorThatNamesTheTarget) {
  const Outcome outcome = RunWith({"info", "--target=unix:/nowhere/socket"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err,
              HasSubstr("tdpctl: UNAVAILABLE: cannot reach tdpd at "
                        "unix:/nowhere/socket"));
  EXPECT_THAT(RunWith({"events", "a", "--target=unix:/nowhere/socket"}).err,
              HasSubstr("cannot reach tdpd"));
}

TEST_F(TdpctlTest, AnErrorIsCodeAndMessage) {
  server_.get_vm.Fail(DaemonError(absl::StatusCode::kNotFound,
                                  "vms/x does not exist; see ListVms",
                                  "RESOURCE_NOT_FOUND", {{"name", "vms/x"}}));
  Outcome outcome = RunAny({"vm", "get", "x"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "tdpctl: NOT_FOUND: vms/x does not exist; see ListVms\n");
  outcome = RunAny({"vm", "get", "x", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            R"({"error":{"code":"NOT_FOUND","domain":"tdp.v1",)"
            R"("message":"vms/x does not exist; see ListVms",)"
            R"("metadata":{"name":"vms/x"},"reason":"RESOURCE_NOT_FOUND"}})"
            "\n");
}

TEST_F(TdpctlTest, ACallHasThirtySecondsUnlessToldOtherwise) {
  server_.get_info.Return({});
  Run({"info"});
  EXPECT_LT(server_.last_timeout(), absl::Seconds(60));
  EXPECT_GT(server_.last_timeout(), absl::ZeroDuration());
  Run({"info", "--timeout=1000"});
  EXPECT_GT(server_.last_timeout(), absl::Seconds(500));
}

TEST_F(TdpctlTest, ACallThatWasRefusedForAWhileIsMadeAgain) {
  int calls = 0;
  server_.start_vm.Do(
      [&calls](const v1::StartVmRequest&, v1::StartVmResponse&) {
        if (++calls > 1) return absl::OkStatus();
        return WithRetryInfo(DaemonError(absl::StatusCode::kAborted, "busy",
                                         "OPERATION_CONFLICT", {}),
                             absl::Milliseconds(1));
      });
  EXPECT_EQ(RunWith({"vm", "start", "demo", "--target=" + server_.target()})
                .exit_code,
            0);
  EXPECT_EQ(calls, 2);
  calls = 0;
  EXPECT_EQ(RunAny({"vm", "start", "demo"}).err, "tdpctl: ABORTED: busy\n");
}

TEST_F(TdpctlTest, ACallThatTakesTooLongEndsAtItsDeadline) {
  // Shared: the handler may still look at it when the test is over.
  auto answered = std::make_shared<absl::Notification>();
  server_.get_info.Do(
      [answered](const v1::GetInfoRequest&, v1::GetInfoResponse&) {
        answered->WaitForNotification();
        return absl::OkStatus();
      });
  const Outcome outcome = RunAny({"info", "--timeout=50ms"});
  answered->Notify();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("tdpctl: DEADLINE_EXCEEDED: "));
}

}  // namespace
}  // namespace tdp::client
