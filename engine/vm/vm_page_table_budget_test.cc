// The budget that the page tables of all VMs share.

#include <unistd.h>

#include <memory>
#include <string>

#include "engine/vm/vm_test_util.h"

namespace tdp {
namespace {

constexpr uint64_t kGiBFrames = 1 << 18;
constexpr int64_t kBudgetBytes = int64_t{128} << 10;

class VmPageTableBudgetTest : public VmTest {
 protected:
  VmPageTableBudgetTest() { options_.max_page_table_bytes = kBudgetBytes; }

  Vm& MakeSparseVm() {
    Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
    AddMemslot(vm, "ram", 0, 256 * kGiBFrames);
    return vm;
  }
  static absl::Status MapOne(Vm& vm, uint64_t gib) {
    const Gfn gfn(gib * kGiBFrames);
    return vm.MapRange({gfn, gfn + 1}, 1, true, {}).status();
  }
  // Maps one page of each GiB until that is refused; returns how many it were.
  static int MapSparsely(Vm& vm, absl::Status* refusal) {
    for (uint64_t gib = 0; gib < 256; ++gib) {
      *refusal = MapOne(vm, gib);
      if (!refusal->ok()) return static_cast<int>(gib);
    }
    return 256;
  }
  static std::string LimitOf(const absl::Status& status) {
    const auto detail = DetailOf(status);
    return detail && !detail->metadata.empty() ? detail->metadata[0].second
                                               : "";
  }
};

TEST_F(VmPageTableBudgetTest, ASparseMapOfOneVmEndsAtItAndZapAllIsTheWayOut) {
  Vm& attacker = MakeSparseVm();
  Vm& other = MakeSparseVm();
  absl::Status refusal;
  const int mapped = MapSparsely(attacker, &refusal);
  EXPECT_EQ(ReasonOf(refusal), ErrorReason::kPageTableLimit);
  EXPECT_EQ(LimitOf(refusal), "max_page_table_bytes") << refusal;
  EXPECT_GE(mapped, 5);
  EXPECT_LE(attacker.Stats().page_table_bytes + other.Stats().page_table_bytes,
            kBudgetBytes);
  EXPECT_EQ(ReasonOf(MapOne(other, 0)), ErrorReason::kPageTableLimit);

  ASSERT_OK(attacker.ZapAll(true).status());
  EXPECT_OK(MapOne(other, 0));
  EXPECT_OK(MapOne(attacker, 0));
}

TEST_F(VmPageTableBudgetTest, WhatADeletedVmHeldOthersMayHave) {
  Vm& other = MakeSparseVm();
  VmConfig config;
  config.hypervisor = HypervisorKind::kSoftware;
  config.vcpu_count = 1;
  ASSERT_OK(registry_->CreateVm("gone", config, false).status());
  absl::Status refusal;
  int mapped = 0;
  {
    const std::shared_ptr<Vm> vm = *registry_->FindVm("gone");
    AddMemslot(*vm, "ram", 0, 256 * kGiBFrames);
    mapped = MapSparsely(*vm, &refusal);
  }
  ASSERT_EQ(ReasonOf(MapOne(other, 0)), ErrorReason::kPageTableLimit);
  ASSERT_OK(registry_->DeleteVm("gone", ""));
  EXPECT_GE(MapSparsely(other, &refusal), mapped);
}

TEST_F(VmPageTableBudgetTest, IsReportedAndASixteenthOfTheMemoryByDefault) {
  EXPECT_EQ(registry_->limits().at("max_page_table_bytes"), kBudgetBytes);
  const auto by_default = VmRegistry::Create({});
  ASSERT_TRUE(by_default.ok()) << by_default.status();
  EXPECT_EQ((*by_default)->limits().at("max_page_table_bytes"),
            sysconf(_SC_PHYS_PAGES) * 4096 / 16);
}

TEST_F(VmPageTableBudgetTest, AGuestWaitsUntilThereIsRoomForItsTables) {
  Vm& attacker = MakeSparseVm();
  Vm& victim = MakeSparseVm();
  absl::Status refusal;
  MapSparsely(attacker, &refusal);
  ASSERT_OK(victim.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(7), Gfn(9)}, .write = true}));
  ASSERT_OK(victim.Start().status());
  const WaitingAccess access = AwaitWaiting(victim, 0);
  EXPECT_EQ(access.gfn, Gfn(7));
  EXPECT_EQ(access.cause, WaitCause::kHostFailed);
  EXPECT_NE(access.detail.find("max_page_table_bytes"), std::string::npos)
      << access.detail;
  ASSERT_OK(attacker.ZapAll(true).status());
  ASSERT_OK(victim.ResolveAccess(access.access_id, Verdict::kRetry));
  AwaitState(victim, VmState::kStopped);
}

}  // namespace
}  // namespace tdp
