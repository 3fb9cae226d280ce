// VmHandler, MemslotHandler, InfoHandler and StatsHandler against the fake.

#include "server/services/vm_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/version.h"
#include "server/services/info_service.h"
#include "server/services/memslot_service.h"
#include "server/services/stats_service.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

constexpr char kRequestId[] = "6f2a1c9e-0b7d-4e58-9a31-2c4d5e6f7a8b";

class VmServiceTest : public testing::Test {
 protected:
  absl::StatusOr<v1::Vm> CreateVm(const std::string& id) {
    v1::CreateVmRequest request;
    request.set_vm_id(id);
    request.mutable_vm()->set_vcpu_count(1);
    v1::CreateVmResponse response;
    const absl::Status status = vm_.CreateVm(context_, request, &response);
    if (!status.ok()) return status;
    return response.vm();
  }

  FakeVmRegistry registry_;
  RequestCache requests_;
  CallContext context_;
  VmHandler vm_{registry_, requests_};
  MemslotHandler memslot_{registry_, requests_};
};

TEST_F(VmServiceTest, CreatesGetsAndDeletesAVm) {
  const v1::Vm created = *CreateVm("a");
  EXPECT_EQ(created.name(), "vms/a");
  EXPECT_EQ(created.state(), v1::Vm::STATE_CREATED);
  EXPECT_EQ(created.hypervisor(), v1::Vm::HYPERVISOR_SOFTWARE);
  v1::GetVmRequest get;
  get.set_name("vms/a");
  v1::GetVmResponse got;
  ASSERT_TRUE(vm_.GetVm(context_, get, &got).ok());
  EXPECT_EQ(got.vm().DebugString(), created.DebugString());
  v1::DeleteVmRequest remove;
  remove.set_name("vms/a");
  v1::DeleteVmResponse removed;
  ASSERT_TRUE(vm_.DeleteVm(context_, remove, &removed).ok());
  EXPECT_EQ(ReasonOf(vm_.GetVm(context_, get, &got)), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(vm_.DeleteVm(context_, remove, &removed)),
            "RESOURCE_NOT_FOUND");
}

TEST_F(VmServiceTest, RefusesToCreateWhatIsMalformedOrTaken) {
  EXPECT_EQ(FieldErrorOf(CreateVm("A").status()), "FIELD_INVALID vm_id");
  EXPECT_EQ(FieldErrorOf(CreateVm("").status()), "FIELD_INVALID vm_id");
  v1::CreateVmRequest request;
  request.set_vm_id("a");
  v1::CreateVmResponse response;
  EXPECT_EQ(FieldErrorOf(vm_.CreateVm(context_, request, &response)),
            "FIELD_INVALID vm");
  request.mutable_vm();
  EXPECT_EQ(FieldErrorOf(vm_.CreateVm(context_, request, &response)),
            "FIELD_INVALID vm.vcpu_count");
  request.mutable_vm()->set_vcpu_count(1);
  request.set_request_id("no uuid");
  EXPECT_EQ(FieldErrorOf(vm_.CreateVm(context_, request, &response)),
            "FIELD_INVALID request_id");
  EXPECT_TRUE(registry_.ListVms().empty());
  ASSERT_TRUE(CreateVm("a").ok());
  EXPECT_EQ(ReasonOf(CreateVm("a").status()), "RESOURCE_EXISTS");
}

TEST_F(VmServiceTest, ChecksWithoutCreating) {
  v1::CreateVmRequest request;
  request.set_vm_id("a");
  request.mutable_vm()->set_vcpu_count(1);
  request.set_request_id(kRequestId);
  request.set_validate_only(true);
  v1::CreateVmResponse response;
  ASSERT_TRUE(vm_.CreateVm(context_, request, &response).ok());
  EXPECT_TRUE(registry_.ListVms().empty());
  // The same id is then good for the real call, once and again.
  request.set_validate_only(false);
  ASSERT_TRUE(vm_.CreateVm(context_, request, &response).ok());
  ASSERT_TRUE(vm_.CreateVm(context_, request, &response).ok());
  EXPECT_EQ(response.vm().name(), "vms/a");
  request.set_vm_id("b");
  EXPECT_EQ(ReasonOf(vm_.CreateVm(context_, request, &response)),
            "REQUEST_ID_REUSED");
}

TEST_F(VmServiceTest, ListsPageByPage) {
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(CreateVm(absl::StrCat("vm-", i)).ok());
  }
  v1::ListVmsRequest request;
  request.set_page_size(3);
  std::vector<int> sizes;
  std::string last;
  do {
    v1::ListVmsResponse response;
    ASSERT_TRUE(vm_.ListVms(context_, request, &response).ok());
    sizes.push_back(response.vms_size());
    for (const v1::Vm& vm : response.vms()) {
      EXPECT_GT(vm.name(), last);
      last = vm.name();
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(sizes, std::vector<int>({3, 3, 1}));
  // The VM that a token names may be gone by then.
  v1::ListVmsResponse response;
  request.set_page_size(1);
  ASSERT_TRUE(vm_.ListVms(context_, request, &response).ok());
  ASSERT_TRUE(registry_.DeleteVm("vm-0", "").ok());
  request.set_page_token(response.next_page_token());
  ASSERT_TRUE(vm_.ListVms(context_, request, &response).ok());
  EXPECT_EQ(response.vms(1).name(), "vms/vm-1");
}

TEST_F(VmServiceTest, RefusesBadPages) {
  v1::ListVmsRequest request;
  v1::ListVmsResponse response;
  request.set_page_size(-1);
  EXPECT_EQ(FieldErrorOf(vm_.ListVms(context_, request, &response)),
            "FIELD_INVALID page_size");
  request.set_page_size(0);
  request.set_page_token("nonsense");
  EXPECT_EQ(FieldErrorOf(vm_.ListVms(context_, request, &response)),
            "FIELD_INVALID page_token");
}

TEST_F(VmServiceTest, UpdatesLabelsAndNothingElse) {
  const v1::Vm created = *CreateVm("a");
  v1::UpdateVmRequest request;
  request.mutable_vm()->set_name("vms/a");
  request.mutable_vm()->set_vcpu_count(9);
  (*request.mutable_vm()->mutable_labels())["owner"] = "me";
  v1::UpdateVmResponse response;
  EXPECT_EQ(FieldErrorOf(vm_.UpdateVm(context_, request, &response)),
            "FIELD_INVALID update_mask");
  request.mutable_update_mask()->add_paths("labels");
  request.mutable_vm()->set_etag("stale");
  EXPECT_EQ(ReasonOf(vm_.UpdateVm(context_, request, &response)),
            "ETAG_MISMATCH");
  request.mutable_vm()->set_etag(created.etag());
  ASSERT_TRUE(vm_.UpdateVm(context_, request, &response).ok());
  EXPECT_EQ(response.vm().labels().at("owner"), "me");
  EXPECT_EQ(response.vm().vcpu_count(), 1);
  EXPECT_NE(response.vm().etag(), created.etag());
  request.mutable_vm()->clear_etag();
  request.mutable_update_mask()->add_paths("vcpu_count");
  EXPECT_EQ(FieldErrorOf(vm_.UpdateVm(context_, request, &response)),
            "FIELD_INVALID update_mask");
}

TEST_F(VmServiceTest, ChangesStates) {
  ASSERT_TRUE(CreateVm("a").ok());
  v1::StartVmRequest start;
  start.set_name("vms/a");
  v1::StartVmResponse started;
  EXPECT_EQ(ReasonOf(vm_.StartVm(context_, start, &started)),
            "VM_STATE_CONFLICT");
  ASSERT_TRUE((*registry_.FindVm("a"))->LoadGuest(0, GuestConfig()).ok());
  ASSERT_TRUE(vm_.StartVm(context_, start, &started).ok());
  EXPECT_EQ(started.vm().state(), v1::Vm::STATE_RUNNING);
  v1::PauseVmRequest pause;
  pause.set_name("vms/a");
  v1::PauseVmResponse paused;
  ASSERT_TRUE(vm_.PauseVm(context_, pause, &paused).ok());
  EXPECT_EQ(paused.vm().state(), v1::Vm::STATE_PAUSED);
  v1::ResumeVmRequest resume;
  resume.set_name("vms/a");
  v1::ResumeVmResponse resumed;
  ASSERT_TRUE(vm_.ResumeVm(context_, resume, &resumed).ok());
  EXPECT_EQ(resumed.vm().state(), v1::Vm::STATE_RUNNING);
  v1::DeleteVmRequest remove;
  remove.set_name("vms/a");
  v1::DeleteVmResponse removed;
  EXPECT_EQ(ReasonOf(vm_.DeleteVm(context_, remove, &removed)),
            "VM_STATE_CONFLICT");
  v1::StopVmRequest stop;
  stop.set_name("vms/a");
  v1::StopVmResponse stopped;
  ASSERT_TRUE(vm_.StopVm(context_, stop, &stopped).ok());
  EXPECT_EQ(stopped.vm().state(), v1::Vm::STATE_STOPPED);
  stop.set_name("a");
  EXPECT_EQ(FieldErrorOf(vm_.StopVm(context_, stop, &stopped)),
            "FIELD_INVALID name");
  stop.set_name("vms/b");
  EXPECT_EQ(ReasonOf(vm_.StopVm(context_, stop, &stopped)),
            "RESOURCE_NOT_FOUND");
}

TEST_F(VmServiceTest, CreatesListsUpdatesAndDeletesMemslots) {
  registry_.MakeVmForTest("a");
  v1::CreateMemslotRequest create;
  create.set_parent("vms/a");
  create.mutable_memslot()->set_frame_count(16);
  v1::CreateMemslotResponse created;
  for (int i : {2, 0, 1}) {
    create.set_memslot_id(absl::StrCat("slot-", i));
    create.mutable_memslot()->set_base_gfn(16 * i);
    ASSERT_TRUE(memslot_.CreateMemslot(context_, create, &created).ok());
  }
  EXPECT_EQ(created.memslot().name(), "vms/a/memslots/slot-1");
  create.set_memslot_id("slot-3");
  EXPECT_EQ(ReasonOf(memslot_.CreateMemslot(context_, create, &created)),
            "MEMSLOT_OVERLAP");

  v1::ListMemslotsRequest list;
  list.set_parent("vms/a");
  list.set_page_size(2);
  v1::ListMemslotsResponse listed;
  ASSERT_TRUE(memslot_.ListMemslots(context_, list, &listed).ok());
  ASSERT_EQ(listed.memslots_size(), 2);
  EXPECT_EQ(listed.memslots(0).base_gfn(), 0u);
  EXPECT_EQ(listed.memslots(1).base_gfn(), 16u);
  list.set_page_token(listed.next_page_token());
  listed.Clear();
  ASSERT_TRUE(memslot_.ListMemslots(context_, list, &listed).ok());
  ASSERT_EQ(listed.memslots_size(), 1);
  EXPECT_EQ(listed.memslots(0).base_gfn(), 32u);
  EXPECT_TRUE(listed.next_page_token().empty());

  v1::UpdateMemslotRequest update;
  update.mutable_memslot()->set_name("vms/a/memslots/slot-0");
  update.mutable_memslot()->set_read_only(true);
  update.mutable_memslot()->set_dirty_log_enabled(true);
  update.mutable_update_mask()->add_paths("read_only");
  v1::UpdateMemslotResponse updated;
  ASSERT_TRUE(memslot_.UpdateMemslot(context_, update, &updated).ok());
  EXPECT_TRUE(updated.memslot().read_only());
  EXPECT_FALSE(updated.memslot().dirty_log_enabled());
  update.mutable_memslot()->set_etag("stale");
  EXPECT_EQ(ReasonOf(memslot_.UpdateMemslot(context_, update, &updated)),
            "ETAG_MISMATCH");
  update.mutable_update_mask()->set_paths(0, "frame_count");
  EXPECT_EQ(FieldErrorOf(memslot_.UpdateMemslot(context_, update, &updated)),
            "FIELD_INVALID update_mask");

  v1::DeleteMemslotRequest remove;
  remove.set_name("vms/a/memslots/slot-0");
  v1::DeleteMemslotResponse removed;
  ASSERT_TRUE(memslot_.DeleteMemslot(context_, remove, &removed).ok());
  v1::GetMemslotRequest get;
  get.set_name("vms/a/memslots/slot-0");
  v1::GetMemslotResponse got;
  EXPECT_EQ(ReasonOf(memslot_.GetMemslot(context_, get, &got)),
            "RESOURCE_NOT_FOUND");
  get.set_name("vms/a/memslots/slot-1");
  EXPECT_TRUE(memslot_.GetMemslot(context_, get, &got).ok());
}

TEST_F(VmServiceTest, RefusesMalformedMemslotRequests) {
  registry_.MakeVmForTest("a");
  v1::CreateMemslotRequest create;
  v1::CreateMemslotResponse created;
  EXPECT_EQ(FieldErrorOf(memslot_.CreateMemslot(context_, create, &created)),
            "FIELD_INVALID parent");
  create.set_parent("vms/b");
  EXPECT_EQ(FieldErrorOf(memslot_.CreateMemslot(context_, create, &created)),
            "FIELD_INVALID memslot_id");
  create.set_memslot_id("x");
  EXPECT_EQ(FieldErrorOf(memslot_.CreateMemslot(context_, create, &created)),
            "FIELD_INVALID memslot");
  create.mutable_memslot()->set_frame_count(1);
  EXPECT_EQ(ReasonOf(memslot_.CreateMemslot(context_, create, &created)),
            "RESOURCE_NOT_FOUND");
  create.mutable_memslot()->mutable_source()->set_path("../x");
  EXPECT_EQ(FieldErrorOf(memslot_.CreateMemslot(context_, create, &created)),
            "FIELD_INVALID memslot.source.path");
  v1::ListMemslotsRequest list;
  list.set_parent("vms/a");
  list.set_page_token("dGRw");
  v1::ListMemslotsResponse listed;
  EXPECT_EQ(FieldErrorOf(memslot_.ListMemslots(context_, list, &listed)),
            "FIELD_INVALID page_token");
}

TEST_F(VmServiceTest, DescribesTheDaemonAndItsHost) {
  InfoHandler info(registry_);
  info.AddLimits({{"max_calls", 5}});
  v1::GetInfoResponse response;
  ASSERT_TRUE(info.GetInfo(context_, v1::GetInfoRequest(), &response).ok());
  EXPECT_EQ(response.version(), kVersion);
  EXPECT_EQ(response.api_versions(0), "tdp.v1");
  ASSERT_EQ(response.capabilities_size(), 1);
  EXPECT_EQ(response.capabilities(0).name(), "kvm");
  EXPECT_EQ(response.capabilities(0).hint(), "load kvm_intel");
  EXPECT_EQ(response.limits().at("max_vms"), 64);
  EXPECT_EQ(response.limits().at("max_queued_calls"), 4096);
  EXPECT_EQ(response.limits().at("max_queued_calls_per_client"), 1024);
  EXPECT_EQ(response.limits().at("max_unread_seconds"), 10);
  EXPECT_EQ(response.limits().at("max_calls"), 5);
  EXPECT_EQ(response.limits().at("max_certificate_names"), 64);
  EXPECT_EQ(response.limits().at("max_policy_bytes"), 262144);
  EXPECT_EQ(response.limits().at("max_policy_lines"), 4096);
  EXPECT_EQ(response.limits().at("max_policy_patterns"), 256);
  EXPECT_EQ(response.limits().at("keepalive_time_ms"), 20000);
  EXPECT_EQ(response.limits().at("guard_max_connections"), 1024);
}

TEST_F(VmServiceTest, ReportsStatistics) {
  registry_.MakeVmForTest("a");
  StatsHandler stats(registry_);
  v1::GetVmStatsRequest request;
  v1::GetVmStatsResponse response;
  EXPECT_EQ(FieldErrorOf(stats.GetVmStats(context_, request, &response)),
            "FIELD_INVALID vm");
  request.set_vm("vms/a");
  ASSERT_TRUE(stats.GetVmStats(context_, request, &response).ok());
  EXPECT_EQ(response.stats().fault_outcomes(0).outcome(), "fixed");
}

}  // namespace
}  // namespace tdp::server
