// tdpctl top, and commands on a fleet.

#include <memory>
#include <string>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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

TEST_F(TopCommandTest, ACommandForOneDaemonRefusesAFleet) {
  const Outcome outcome =
      RunWith({"map", "demo", "0..4K", "--target=unix:/a,unix:/b"});
  EXPECT_EQ(outcome.exit_code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr("one daemon; --target names 2"));
}

}  // namespace
}  // namespace tdp::client
