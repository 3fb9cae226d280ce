// The budget that the page tables of all VMs share.

#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/vm/vm_test_util.h"

namespace tdp {
namespace {

constexpr uint64_t kGiBFrames = 1 << 18;
constexpr int64_t kBudgetBytes = int64_t{128} << 10;

class VmPageTableBudgetTest : public VmTest {
 protected:
  VmPageTableBudgetTest() { options_.max_page_table_bytes = kBudgetBytes; }

  // A VM that may have more than its part of the budget.
  Vm& MakeSparseVm() {
    Vm& vm = CreateVm(HypervisorKind::kSoftware, 1,
                      {.page_table_limit_bytes = 2 * kBudgetBytes});
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
  static void LoadTouch(Vm& vm) {
    EXPECT_OK(vm.LoadGuest(
        0, TouchGuestConfig{.range = {Gfn(7), Gfn(9)}, .write = true}));
  }
  // REQUIRES: the budget is spent.
  static WaitingAccess StartUntilItWaits(Vm& vm) {
    LoadTouch(vm);
    EXPECT_OK(vm.Start().status());
    return AwaitWaiting(vm, 0);
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
  config.page_table_limit_bytes = 2 * kBudgetBytes;
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

TEST_F(VmPageTableBudgetTest, AVmHasAPartOfItUnlessItsCreatorSaysMore) {
  options_.max_page_table_bytes = 8 * kBudgetBytes;
  SetUp();
  Vm& greedy = CreateVm(HypervisorKind::kSoftware, 1);
  EXPECT_EQ(greedy.Describe().config.page_table_limit_bytes, 2 * kBudgetBytes);
  EXPECT_EQ(registry_->limits().at("default_page_table_limit_bytes"),
            2 * kBudgetBytes);
  AddMemslot(greedy, "ram", 0, 256 * kGiBFrames);
  Vm& other = MakeSparseVm();
  absl::Status refusal;
  MapSparsely(greedy, &refusal);
  EXPECT_EQ(LimitOf(refusal), "page_table_limit_bytes") << refusal;
  EXPECT_OK(MapOne(other, 0));
}

TEST_F(VmPageTableBudgetTest, AGuestWaitsUntilAnotherVmGivesTablesBack) {
  Vm& attacker = MakeSparseVm();
  Vm& victim = MakeSparseVm();
  for (const bool wait : {true, false}) {
    absl::Status refusal;
    MapSparsely(attacker, &refusal);
    const WaitingAccess access = StartUntilItWaits(victim);
    EXPECT_EQ(access.gfn, Gfn(7));
    EXPECT_EQ(access.cause, WaitCause::kHostFailed);
    EXPECT_NE(access.detail.find("max_page_table_bytes"), std::string::npos)
        << access.detail;
    // Nobody tells the victim.
    ASSERT_OK(attacker.ZapAll(wait).status());
    AwaitState(victim, VmState::kStopped);
    ASSERT_OK(victim.ZapAll(true).status());
  }
}

TEST_F(VmPageTableBudgetTest, AGuestWaitsUntilAnotherVmIsDeleted) {
  VmConfig config;
  config.hypervisor = HypervisorKind::kSoftware;
  config.vcpu_count = 1;
  config.page_table_limit_bytes = 2 * kBudgetBytes;
  ASSERT_OK(registry_->CreateVm("gone", config, false).status());
  {
    const std::shared_ptr<Vm> vm = *registry_->FindVm("gone");
    AddMemslot(*vm, "ram", 0, 256 * kGiBFrames);
    absl::Status refusal;
    MapSparsely(*vm, &refusal);
  }
  Vm& victim = MakeSparseVm();
  StartUntilItWaits(victim);
  ASSERT_OK(registry_->DeleteVm("gone", ""));
  AwaitState(victim, VmState::kStopped);
}

// Guests whose tables never all fit find room whenever one of them gives up
// its own, however the wait of one and the way out of another meet.
TEST_F(VmPageTableBudgetTest, NoGuestIsForgottenWhileOthersComeAndGo) {
  constexpr int kVms = 4;
  constexpr int kRounds = 50;
  std::vector<Vm*> vms;
  // A root and three tables each, of 12 that there are.
  options_.max_page_table_bytes = 12 * static_cast<int64_t>(kPageSize);
  SetUp();
  for (int i = 0; i < kVms; ++i) vms.push_back(&MakeSparseVm());
  std::vector<std::thread> threads;
  for (Vm* vm : vms) {
    threads.emplace_back([vm] {
      for (int i = 0; i < kRounds && !HasFailure(); ++i) {
        LoadTouch(*vm);
        ASSERT_OK(vm->Start().status());
        AwaitState(*vm, VmState::kStopped);
        ASSERT_OK(vm->ZapAll(true).status());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tdp
