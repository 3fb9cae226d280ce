// info, vm, slot, vcpu and guest.

#include <fstream>
#include <string>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kVm[] = R"pb(
  vm {
    name: "vms/demo"
    vcpu_count: 2
    page_table_limit_bytes: 1073741824
    labels { key: "b" value: "2" }
    labels { key: "a" value: "1" }
    state: STATE_RUNNING
    create_time { seconds: 1700000000 }
    hypervisor: HYPERVISOR_KVM
    root_level: 4
  })pb";

constexpr char kVmText[] =
    "NAME      STATE    HYPERVISOR  VCPUS  LEVELS  TABLE-LIMIT  LABELS   "
    "CREATED\n"
    "vms/demo  RUNNING  kvm             2       4           1G  a=1,b=2  "
    "2023-11-14T22:13:20Z\n";

constexpr char kSlot[] = R"pb(
  memslot {
    name: "vms/demo/memslots/ram"
    base_gfn: 256
    frame_count: 16384
    read_only: true
    host_page_level: PAGE_LEVEL_4K
    source { path: "disk.img" offset_bytes: 4096 }
    fault_policy: FAULT_POLICY_WAIT
    map_around_frame_count: 16
  })pb";

TEST_F(TdpctlTest, InfoShowsCapabilitiesAndSortedLimits) {
  server_.get_info.Return(Proto<v1::GetInfoResponse>(R"pb(
    version: "0.1.0"
    api_versions: "tdp.v1"
    capabilities { name: "kvm" available: true }
    capabilities { name: "userfaultfd" hint: "allow /dev/userfaultfd" }
    limits { key: "max_vms" value: 64 }
    limits { key: "max_gfn" value: 1000 }
  )pb"));
  EXPECT_EQ(Run({"info"}),
            "tdpd 0.1.0, serves tdp.v1\n"
            "\n"
            "CAPABILITY   AVAILABLE  HINT\n"
            "kvm          yes        -\n"
            "userfaultfd  no         allow /dev/userfaultfd\n"
            "\n"
            "LIMIT    VALUE\n"
            "max_gfn   1000\n"
            "max_vms     64\n");
}

TEST_F(TdpctlTest, CreatingAVmSendsEveryOption) {
  server_.create_vm.Return(Proto<v1::CreateVmResponse>(kVm));
  EXPECT_EQ(Run({"vm", "create", "demo", "--vcpus=2", "--hypervisor=kvm",
                 "--root-level=5", "--table-limit=1G", "--label", "b=2",
                 "--label=a=1=x"}),
            kVmText);
  EXPECT_THAT(server_.create_vm.requests(), ElementsAre(EqualsProto(R"pb(
                vm_id: "demo"
                vm {
                  vcpu_count: 2
                  page_table_limit_bytes: 1073741824
                  labels { key: "a" value: "1=x" }
                  labels { key: "b" value: "2" }
                  hypervisor: HYPERVISOR_KVM
                  root_level: 5
                })pb")));
}

TEST_F(TdpctlTest, AVmHasOneVcpuAndTheDaemonsDefaultsUnlessGiven) {
  server_.create_vm.Return(Proto<v1::CreateVmResponse>(kVm));
  Run({"vm", "create", "demo"});
  EXPECT_THAT(server_.create_vm.requests(),
              ElementsAre(EqualsProto(R"pb(vm_id: "demo"
                                           vm { vcpu_count: 1 })pb")));
}

TEST_F(TdpctlTest, EveryTransitionShowsTheVm) {
  server_.get_vm.Return(Proto<v1::GetVmResponse>(kVm));
  server_.start_vm.Return(Proto<v1::StartVmResponse>(kVm));
  server_.pause_vm.Return(Proto<v1::PauseVmResponse>(kVm));
  server_.resume_vm.Return(Proto<v1::ResumeVmResponse>(kVm));
  server_.stop_vm.Return(Proto<v1::StopVmResponse>(kVm));
  for (const char* verb : {"get", "start", "pause", "resume", "stop"}) {
    EXPECT_EQ(Run({"vm", verb, "demo"}), kVmText) << verb;
  }
  EXPECT_EQ(server_.get_vm.requests().at(0).name(), "vms/demo");
  EXPECT_EQ(server_.start_vm.requests().at(0).name(), "vms/demo");
  EXPECT_EQ(server_.pause_vm.requests().at(0).name(), "vms/demo");
  EXPECT_EQ(server_.resume_vm.requests().at(0).name(), "vms/demo");
  EXPECT_EQ(server_.stop_vm.requests().at(0).name(), "vms/demo");
}

TEST_F(TdpctlTest, UpdatingAVmReplacesItsLabels) {
  server_.update_vm.Return(Proto<v1::UpdateVmResponse>(kVm));
  EXPECT_EQ(Run({"vm", "update", "demo", "--label", "b=2", "--label=a=1",
                 "--etag=7"}),
            kVmText);
  Run({"vm", "update", "demo", "--no-labels"});
  EXPECT_THAT(
      server_.update_vm.requests(),
      ElementsAre(EqualsProto(R"pb(
                    vm {
                      name: "vms/demo"
                      labels { key: "a" value: "1" }
                      labels { key: "b" value: "2" }
                      etag: "7"
                    }
                    update_mask { paths: "labels" })pb"),
                  EqualsProto(R"pb(vm { name: "vms/demo" }
                                   update_mask { paths: "labels" })pb")));
  EXPECT_THAT(Run({"vm", "update", "demo", "--no-labels", "--json"}),
              HasSubstr("{\"vm\":{\"name\":\"vms/demo\""));
}

TEST_F(TdpctlTest, AVmMayBeNamedInFull) {
  server_.get_vm.Return(Proto<v1::GetVmResponse>(kVm));
  Run({"vm", "get", "vms/demo"});
  EXPECT_EQ(server_.get_vm.requests().at(0).name(), "vms/demo");
}

TEST_F(TdpctlTest, AListJoinsItsPages) {
  server_.list_vms.Do(
      [](const v1::ListVmsRequest& request, v1::ListVmsResponse& response) {
        const bool first = request.page_token().empty();
        response.add_vms()->set_name(first ? "vms/a" : "vms/b");
        if (first) response.set_next_page_token("more");
        return absl::OkStatus();
      });
  const std::string json = Run({"vm", "list", "--json"});
  EXPECT_THAT(json, HasSubstr("\"vms/a\""));
  EXPECT_THAT(json, HasSubstr("\"vms/b\""));
  EXPECT_THAT(json, HasSubstr("\"nextPageToken\":\"\"}\n"));
  const std::string text = Run({"vm", "list"});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

TEST_F(TdpctlTest, DeletingNamesWhatIsGone) {
  server_.delete_vm.Return({});
  EXPECT_EQ(Run({"vm", "delete", "demo"}), "deleted vms/demo\n");
  EXPECT_EQ(Run({"vm", "delete", "demo", "--json"}), "{}\n");
  server_.delete_memslot.Return({});
  EXPECT_EQ(Run({"slot", "delete", "demo", "ram"}),
            "deleted vms/demo/memslots/ram\n");
  EXPECT_EQ(server_.delete_memslot.requests().at(0).name(),
            "vms/demo/memslots/ram");
}

TEST_F(TdpctlTest, JsonIsTheResponseOnOneLine) {
  server_.get_vm.Return(Proto<v1::GetVmResponse>(kVm));
  EXPECT_EQ(Run({"--json", "vm", "get", "demo"}),
            R"({"vm":{"name":"vms/demo","vcpuCount":2,)"
            R"("pageTableLimitBytes":"1073741824",)"
            R"("labels":{"a":"1","b":"2"},"state":"STATE_RUNNING","etag":"",)"
            R"("hypervisor":"HYPERVISOR_KVM","rootLevel":4,)"
            R"("createTime":"2023-11-14T22:13:20Z"}})"
            "\n");
}

TEST_F(TdpctlTest, CreatingASlotSendsEveryOption) {
  server_.create_memslot.Return(Proto<v1::CreateMemslotResponse>(kSlot));
  EXPECT_EQ(
      Run({"slot", "create", "demo", "ram", "--base=1M", "--size=64M",
           "--read-only", "--source=disk.img", "--offset=4K",
           "--fault-policy=wait", "--host-page=2M", "--map-around=16"}),
      "NAME                   ADDRESSES            SIZE  HOST-PAGE  FAULTS  "
      "AROUND  FLAGS      SOURCE\n"
      "vms/demo/memslots/ram  0x100000..0x4100000   64M  4K         wait    "
      "    16  read-only  disk.img@0x1000\n");
  EXPECT_THAT(server_.create_memslot.requests(), ElementsAre(EqualsProto(R"pb(
                parent: "vms/demo"
                memslot_id: "ram"
                memslot {
                  base_gfn: 256
                  frame_count: 16384
                  read_only: true
                  host_page_level: PAGE_LEVEL_2M
                  source { path: "disk.img" offset_bytes: 4096 }
                  fault_policy: FAULT_POLICY_WAIT
                  map_around_frame_count: 16
                })pb")));
}

TEST_F(TdpctlTest, UpdatingASlotNamesEveryFieldThatIsGiven) {
  server_.update_memslot.Return(Proto<v1::UpdateMemslotResponse>(kSlot));
  EXPECT_THAT(
      Run({"slot", "update", "demo", "ram", "--base=1M", "--read-only=on",
           "--fault-policy=wait", "--map-around=16", "--etag=7"}),
      HasSubstr("vms/demo/memslots/ram  0x100000..0x4100000   64M"));
  EXPECT_THAT(server_.update_memslot.requests(), ElementsAre(EqualsProto(R"pb(
                memslot {
                  name: "vms/demo/memslots/ram"
                  base_gfn: 256
                  read_only: true
                  etag: "7"
                  fault_policy: FAULT_POLICY_WAIT
                  map_around_frame_count: 16
                }
                update_mask {
                  paths: [
                    "base_gfn",
                    "read_only",
                    "fault_policy",
                    "map_around_frame_count"
                  ]
                })pb")));
}

TEST_F(TdpctlTest, TheDirtyLogOfASlotIsSetUpAndShown) {
  server_.create_memslot.Return(Proto<v1::CreateMemslotResponse>(R"pb(
    memslot {
      name: "vms/demo/memslots/ram"
      frame_count: 1
      dirty_log_enabled: true
      dirty_mode: DIRTY_MODE_HARVEST
      dirty_log_initially_set: true
    })pb"));
  EXPECT_THAT(
      Run({"slot", "create", "demo", "ram", "--base=0", "--size=4K",
           "--dirty-log", "--dirty-initially-set", "--dirty-mode=harvest"}),
      HasSubstr("  dirty-log:harvest,dirty-initially-set  -\n"));
  EXPECT_THAT(server_.create_memslot.requests(), ElementsAre(EqualsProto(R"pb(
                parent: "vms/demo"
                memslot_id: "ram"
                memslot {
                  frame_count: 1
                  dirty_log_enabled: true
                  dirty_mode: DIRTY_MODE_HARVEST
                  dirty_log_initially_set: true
                })pb")));
}

TEST_F(TdpctlTest, TheDirtyLogOfASlotIsSwitched) {
  server_.update_memslot.Return(Proto<v1::UpdateMemslotResponse>(R"pb(
    memslot { dirty_log_enabled: true dirty_mode: DIRTY_MODE_WRITE_PROTECT }
  )pb"));
  EXPECT_THAT(Run({"slot", "update", "demo", "ram", "--dirty-log=on",
                   "--dirty-initially-set=off"}),
              HasSubstr("  dirty-log:write-protect  -\n"));
  Run({"slot", "update", "demo", "ram", "--dirty-log=off"});
  EXPECT_THAT(
      server_.update_memslot.requests(),
      ElementsAre(
          EqualsProto(R"pb(
            memslot { name: "vms/demo/memslots/ram" dirty_log_enabled: true }
            update_mask {
              paths: "dirty_log_enabled"
              paths: "dirty_log_initially_set"
            })pb"),
          EqualsProto(R"pb(memslot { name: "vms/demo/memslots/ram" }
                           update_mask { paths: "dirty_log_enabled" }
          )pb")));
}

TEST_F(TdpctlTest, UpdatingNothingOfASlotIsRefusedBeforeAnyCall) {
  for (const char* option : {"--json", "--etag=7"}) {
    const Outcome outcome = RunAny({"slot", "update", "demo", "ram", option});
    EXPECT_EQ(outcome.exit_code, 2) << option;
    EXPECT_EQ(outcome.out, "") << option;
    EXPECT_THAT(outcome.err, HasSubstr("tdpctl: nothing to update; "))
        << option;
  }
  EXPECT_TRUE(server_.update_memslot.requests().empty());
}

TEST_F(TdpctlTest, AFieldOfASlotMayBeSwitchedOff) {
  server_.update_memslot.Return(Proto<v1::UpdateMemslotResponse>(kSlot));
  Run({"slot", "update", "demo", "ram", "--read-only=off", "--base=0"});
  EXPECT_THAT(server_.update_memslot.requests(), ElementsAre(EqualsProto(R"pb(
                memslot { name: "vms/demo/memslots/ram" }
                update_mask { paths: "base_gfn" paths: "read_only" })pb")));
  EXPECT_THAT(
      Run({"slot", "update", "demo", "ram", "--map-around=0", "--json"}),
      HasSubstr("{\"memslot\":{\"name\":\"vms/demo/memslots/ram\""));
}

TEST_F(TdpctlTest, SlotsAreListedAndShown) {
  server_.list_memslots.Do([](const v1::ListMemslotsRequest& request,
                              v1::ListMemslotsResponse& response) {
    EXPECT_EQ(request.parent(), "vms/demo");
    *response.add_memslots() = Proto<v1::GetMemslotResponse>(kSlot).memslot();
    return absl::OkStatus();
  });
  server_.get_memslot.Return(Proto<v1::GetMemslotResponse>(kSlot));
  EXPECT_EQ(Run({"slot", "list", "demo"}), Run({"slot", "get", "demo", "ram"}));
  EXPECT_EQ(server_.get_memslot.requests().at(0).name(),
            "vms/demo/memslots/ram");
}

TEST_F(TdpctlTest, AnOffsetNeedsASource) {
  const Outcome outcome = RunAny(
      {"slot", "create", "demo", "ram", "--base=0", "--size=4K", "--offset=0"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--source"));
}

TEST_F(TdpctlTest, AVcpuIsShownWithItsConsole) {
  server_.get_vcpu.Return(Proto<v1::GetVcpuResponse>(R"pb(
    vcpu {
      name: "vms/demo/vcpus/0"
      state: STATE_EXITED
      exit_reason: "HLT"
      instruction_pointer: 4110
      console: "hello"
      touched_frame_count: 224
    })pb"));
  EXPECT_EQ(Run({"vcpu", "get", "demo", "0"}),
            "NAME              STATE   EXIT      IP  TOUCHED  WAITS-FOR\n"
            "vms/demo/vcpus/0  EXITED  HLT   0x100e      224  -\n"
            "\n"
            "hello\n");
  EXPECT_EQ(server_.get_vcpu.requests().at(0).name(), "vms/demo/vcpus/0");
}

TEST_F(TdpctlTest, VcpusAreListed) {
  server_.list_vcpus.Return(Proto<v1::ListVcpusResponse>(R"pb(
    vcpus { name: "vms/demo/vcpus/0" state: STATE_IDLE }
    vcpus {
      name: "vms/demo/vcpus/1"
      state: STATE_WAITING
      waiting_access {
        access_id: 7
        gfn: 1
        access { write: true }
        vcpu_index: 1
        cause: CAUSE_PROTECTION
      }
    })pb"));
  EXPECT_EQ(Run({"vcpu", "list", "demo"}),
            "NAME              STATE    EXIT   IP  TOUCHED  WAITS-FOR\n"
            "vms/demo/vcpus/0  IDLE     -     0x0        0  -\n"
            "vms/demo/vcpus/1  WAITING  -     0x0        0  access 7 by vcpu "
            "1: -w at 0x1000, cause PROTECTION\n");
}

TEST_F(TdpctlTest, WaitingEndsWithTheExit) {
  server_.wait_vcpu.Return(Proto<v1::WaitVcpuResponse>(
      R"pb(vcpu { name: "vms/demo/vcpus/0" state: STATE_EXITED })pb"));
  EXPECT_THAT(Run({"vcpu", "wait", "demo", "0"}), HasSubstr("EXITED"));
}

TEST_F(TdpctlTest, WaitingInVainFails) {
  server_.wait_vcpu.Return(Proto<v1::WaitVcpuResponse>(
      R"pb(vcpu { name: "vms/demo/vcpus/0" state: STATE_RUNNING })pb"));
  const Outcome outcome = RunAny({"vcpu", "wait", "demo", "0", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("STATE_RUNNING"));
  EXPECT_EQ(outcome.err,
            "tdpctl: vms/demo/vcpus/0 is still RUNNING; give it longer with "
            "--timeout\n");
}

TEST_F(TdpctlTest, ATouchGuestIsLoadedWithEveryOption) {
  server_.load_guest.Return({});
  EXPECT_EQ(
      Run({"guest", "touch", "demo", "--range=0..64M", "--write",
           "--pattern=shuffled", "--passes=-1", "--seed=7", "--vcpu=all"}),
      "loaded; it runs from the next start of vms/demo\n");
  EXPECT_THAT(server_.load_guest.requests(), ElementsAre(EqualsProto(R"pb(
                name: "vms/demo/vcpus/-"
                guest {
                  touch {
                    range { start_gfn: 0 end_gfn: 16384 }
                    pattern: PATTERN_SHUFFLED
                    write: true
                    pass_count: -1
                    seed: 7
                  }
                })pb")));
}

TEST_F(TdpctlTest, CodeComesInDigitsOrFromAFile) {
  server_.load_guest.Return({});
  Run({"guest", "code", "demo", "--hex=90f4", "--entry=0x1000", "--mode=real"});
  const std::string path = ::testing::TempDir() + "/code.bin";
  std::ofstream(path, std::ios::binary) << "\x90\xf4";
  Run({"guest", "code", "demo", "--file=" + path, "--entry=4K", "--vcpu=1"});
  const auto requests = server_.load_guest.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_THAT(requests[0], EqualsProto(R"pb(
                name: "vms/demo/vcpus/0"
                guest {
                  code { code: "\x90\xf4" entry_gpa: 4096 mode: MODE_REAL }
                })pb"));
  EXPECT_THAT(requests[1], EqualsProto(R"pb(
                name: "vms/demo/vcpus/1"
                guest { code { code: "\x90\xf4" entry_gpa: 4096 } })pb"));
}

TEST_F(TdpctlTest, CodeNeedsExactlyOneReadableSource) {
  for (const std::string source : {"--seed=1", "--file=/nowhere", "--hex=9"}) {
    const Outcome outcome =
        RunAny({"guest", "code", "demo", source, "--entry=0"});
    EXPECT_EQ(outcome.exit_code, 2) << source;
  }
  EXPECT_EQ(RunAny({"guest", "code", "demo", "--entry=0"}).exit_code, 2);
  EXPECT_EQ(RunAny({"guest", "code", "demo", "--entry=0", "--hex=90",
                    "--file=/dev/null"})
                .exit_code,
            2);
  EXPECT_TRUE(server_.load_guest.requests().empty());
}

TEST_F(TdpctlTest, AnElfGuestIsAPathOfTheDaemon) {
  server_.load_guest.Return({});
  EXPECT_EQ(Run({"guest", "elf", "demo", "--path=kernel.elf", "--json"}),
            "{}\n");
  EXPECT_THAT(server_.load_guest.requests(),
              ElementsAre(EqualsProto(
                  R"pb(name: "vms/demo/vcpus/0"
                       guest { elf { path: "kernel.elf" } })pb")));
}

}  // namespace
}  // namespace tdp::client
