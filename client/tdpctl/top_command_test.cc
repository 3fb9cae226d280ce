// tdpctl top, and commands on a fleet.

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A daemon with one VM, whose faults grow with each look at them.
void ServeVm(FakeServer& server, const std::string& name) {
  server.list_vms.Do(
      [name](const v1::ListVmsRequest&, v1::ListVmsResponse& out) {
        v1::Vm* vm = out.add_vms();
        vm->set_name("vms/" + name);
        vm->set_state(v1::Vm::STATE_RUNNING);
        vm->set_vcpu_count(2);
        return absl::OkStatus();
      });
  auto looks = std::make_shared<int64_t>(0);
  server.get_vm_stats.Do(
      [looks](const v1::GetVmStatsRequest&, v1::GetVmStatsResponse& out) {
        v1::VmStats& stats = *out.mutable_stats();
        stats.mutable_sample_time()->set_seconds(100 + 2 * *looks);
        stats.set_leaf_4k_count(3);
        stats.set_leaf_2m_count(1);
        stats.set_page_table_bytes(16384);
        stats.set_waiting_access_count(7);
        stats.add_fault_outcomes()->set_fault_count(500 * *looks);
        ++*looks;
        return absl::OkStatus();
      });
}

class TopCommandTest : public TdpctlTest {};

TEST_F(TopCommandTest, ShowsWhatIsMappedAndFaultsASecond) {
  ServeVm(server_, "demo");
  const std::string out = Run({"top", "--count=2", "--interval=1ms"});
  EXPECT_THAT(out, HasSubstr("vms/demo  RUNNING"));
  EXPECT_THAT(out, HasSubstr("2060K"));
  // 500 faults in the 2 seconds between the two samples; none known before.
  EXPECT_THAT(out, HasSubstr("       -        7"));
  EXPECT_THAT(out, HasSubstr("     250        7"));
  EXPECT_THAT(out, Not(HasSubstr("DAEMON")));
}

TEST_F(TopCommandTest, AFleetIsOneTable) {
  FakeServer other;
  ServeVm(server_, "demo");
  ServeVm(other, "second");
  const Outcome outcome =
      RunWith({"top", "--count=1",
               "--target=" + server_.target() + "," + other.target()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("DAEMON"));
  EXPECT_THAT(outcome.out, HasSubstr(server_.target() + "  vms/demo"));
  EXPECT_THAT(outcome.out, HasSubstr(other.target() + "  vms/second"));
}

TEST_F(TopCommandTest, ADaemonThatIsDownHidesNoOther) {
  ServeVm(server_, "demo");
  for (const char* command : {"top", "list"}) {
    std::vector<std::string> args = {"top", "--count=1"};
    if (command == std::string("list")) args = {"vm", "list"};
    args.push_back("--target=" + server_.target() + ",unix:/nonexistent/s");
    const Outcome outcome = RunWith(args);
    EXPECT_EQ(outcome.exit_code, kExitError) << command;
    EXPECT_THAT(outcome.out, HasSubstr("vms/demo")) << command;
    EXPECT_THAT(outcome.out + outcome.err, HasSubstr("unix:/nonexistent/s: "))
        << command;
  }
}

TEST_F(TopCommandTest, LinesOfAFleetInJsonSayWhoseTheyAre) {
  FakeServer other;
  ServeVm(server_, "demo");
  other.list_vms.Return({});
  const std::string fleet =
      "--target=" + server_.target() + "," + other.target();
  const Outcome outcome = RunWith({"vm", "list", "--json", fleet});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("{\"daemon\":\"" + server_.target() +
                                      "\",\"vms\":[{\"name\":\"vms/demo\""));
  EXPECT_THAT(outcome.out,
              HasSubstr("\n{\"daemon\":\"" + other.target() + "\",\"vms\""));
  EXPECT_THAT(Run({"vm", "list", "--json"}), StartsWith("{\"vms\":[{"));
}

class FleetStatsTest : public TopCommandTest {
 protected:
  FleetStatsTest() {
    ServeVm(server_, "demo");
    without_.get_vm_stats.Fail(DaemonError(absl::StatusCode::kNotFound,
                                           "vms/demo does not exist",
                                           "RESOURCE_NOT_FOUND", {}));
  }

  Outcome Stats(const std::string& second, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"stats", "demo"});
    flags.push_back("--target=" + without_.target() + "," + second);
    return RunWith(flags);
  }

  FakeServer without_;
};

TEST_F(FleetStatsTest, TheDaemonsThatHaveTheVmAnswer) {
  const Outcome text = Stats(server_.target(), {});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, StartsWith(server_.target() + "\n"));
  EXPECT_THAT(text.out, HasSubstr("waiting_access_count"));
  EXPECT_THAT(text.out, Not(HasSubstr(without_.target())));
  const Outcome json = Stats(server_.target(), {"--json"});
  EXPECT_THAT(json.out, StartsWith("{\"daemon\":\"" + server_.target() +
                                   "\",\"stats\":{"));
  EXPECT_EQ(std::count(json.out.begin(), json.out.end(), '\n'), 1);
}

TEST_F(FleetStatsTest, AVmThatNoDaemonHasIsNotFound) {
  const Outcome outcome = Stats(without_.target(), {});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "tdpctl: NOT_FOUND: vms/demo does not exist\n");
}

TEST_F(FleetStatsTest, ADaemonThatIsDownIsToldOf) {
  const Outcome outcome = Stats("unix:/nonexistent/s," + server_.target(), {});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_THAT(outcome.err, HasSubstr("unix:/nonexistent/s: UNAVAILABLE"));
  EXPECT_THAT(outcome.out, HasSubstr("waiting_access_count"));
}

TEST_F(FleetStatsTest, OnlyOneDaemonIsWatched) {
  const Outcome outcome = Stats(server_.target(), {"--watch"});
  EXPECT_EQ(outcome.exit_code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr("one daemon; --target names 2"));
  EXPECT_TRUE(server_.watch_vm_stats.requests().empty());
}

TEST_F(TopCommandTest, ADaemonThatStandsStillFreezesNoOther) {
  FakeServer stuck;
  absl::Notification over;
  stuck.list_vms.Do([&](const v1::ListVmsRequest&, v1::ListVmsResponse&) {
    over.WaitForNotification();
    return absl::OkStatus();
  });
  ServeVm(server_, "demo");
  const Outcome outcome =
      RunWith({"top", "--count=1", "--interval=1ms",
               "--target=" + stuck.target() + "," + server_.target()});
  over.Notify();
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_THAT(outcome.out, HasSubstr("vms/demo"));
  EXPECT_THAT(outcome.out, HasSubstr(stuck.target() + ": DEADLINE_EXCEEDED"));
}

TEST_F(TopCommandTest, DaemonsAreAskedAtTheSameTime) {
  FakeServer other;
  std::atomic<int> asked = 0;
  absl::Notification all_asked;
  const auto answer = [&](const v1::ListVmsRequest&, v1::ListVmsResponse&) {
    if (++asked == 2) all_asked.Notify();
    return all_asked.WaitForNotificationWithTimeout(absl::Seconds(20))
               ? absl::OkStatus()
               : absl::InternalError("asked alone");
  };
  server_.list_vms.Do(answer);
  other.list_vms.Do(answer);
  const Outcome outcome =
      RunWith({"top", "--count=1", "--interval=30s",
               "--target=" + server_.target() + "," + other.target()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
}

TEST_F(TopCommandTest, ALookHasTheTimeOfItsIntervalOrOneThatIsGiven) {
  server_.list_vms.Return({});
  Run({"top", "--count=1", "--interval=10s"});
  EXPECT_GT(server_.last_timeout(), absl::Seconds(5));
  EXPECT_LT(server_.last_timeout(), absl::Seconds(20));  // gRPC rounds it up
  Run({"top", "--count=1", "--interval=10s", "--timeout=100s"});
  EXPECT_GT(server_.last_timeout(), absl::Seconds(50));
}

TEST_F(TopCommandTest, ACommandForOneDaemonRefusesAFleet) {
  const Outcome outcome =
      RunWith({"map", "demo", "0..4K", "--target=unix:/a,unix:/b"});
  EXPECT_EQ(outcome.exit_code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr("one daemon; --target names 2"));
}

}  // namespace
}  // namespace tdp::client
