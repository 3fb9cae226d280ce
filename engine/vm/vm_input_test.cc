// Bad input: a clear, typed error that names the value, and nothing changed.

#include <cstdint>
#include <string>

#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kMax = UINT64_MAX;

class VmInputTest : public VmTest {
 protected:
  void SetUp() override {
    VmTest::SetUp();
    vm_ = &CreateVm(HypervisorKind::kSoftware, 2);
    AddMemslot(*vm_, "ram", 100, 1000);
  }
  void TearDown() override {
    const VmStats stats = vm_->Stats();
    EXPECT_EQ(stats.leaf_4k_count + stats.leaf_2m_count, 0);
    EXPECT_EQ(vm_->ListMemslots().size(), 1u);
  }

  Vm* vm_ = nullptr;
};

TEST_F(VmInputTest, RangesThatAreEmptyReversedOrBeyondTheRoot) {
  const GfnRange bad[] = {
      {Gfn(100), Gfn(100)},
      {Gfn(200), Gfn(100)},
      {Gfn(kMax), Gfn(kMax)},
      {Gfn(kMax), Gfn(0)},
      {Gfn(0), Gfn(kMax)},
      {Gfn(kMax - 1), Gfn(kMax)},
      {Gfn(uint64_t{1} << 36), Gfn((uint64_t{1} << 36) + 1)},
      {Gfn(0), Gfn((uint64_t{1} << 36) + 1)},
  };
  std::vector<SpteView> out;
  for (const GfnRange range : bad) {
    const absl::Status results[] = {
        vm_->MapRange(range, 0, true, {}).status(),
        vm_->ZapRange(range, {}).status(),
        vm_->AuditRange(range, 0, {}).status(),
        vm_->WalkRange(range, {}, 10, out).status(),
        vm_->LoadGuest(0, TouchGuestConfig{.range = range}),
    };
    for (const absl::Status& status : results) {
      EXPECT_EQ(ReasonOf(status), ErrorReason::kFieldInvalid) << status;
      EXPECT_TRUE(absl::IsInvalidArgument(status));
    }
  }
  // The last frame of the root is fine.
  const GfnRange last = {Gfn((uint64_t{1} << 36) - 1), Gfn(uint64_t{1} << 36)};
  EXPECT_OK(vm_->ZapRange(last, {}).status());
  EXPECT_OK(vm_->WalkRange(last, {}, 10, out).status());
}

TEST_F(VmInputTest, MapOutsideMemslotsNamesTheFirstSuchFrame) {
  for (const GfnRange range :
       {GfnRange{Gfn(0), Gfn(101)}, GfnRange{Gfn(1000), Gfn(1101)},
        GfnRange{Gfn(5000), Gfn(5001)}}) {
    const auto status = vm_->MapRange(range, 0, true, {}).status();
    EXPECT_EQ(ReasonOf(status), ErrorReason::kGfnNotBacked);
    EXPECT_TRUE(absl::IsOutOfRange(status));
  }
  EXPECT_EQ(
      DetailOf(vm_->MapRange({Gfn(1000), Gfn(1101)}, 0, true, {}).status())
          ->metadata[0]
          .second,
      "0x44c");
}

TEST_F(VmInputTest, LevelsThatMapRangeDoesNotTake) {
  for (const int level : {-1, 3, 4, 5, 99}) {
    EXPECT_EQ(
        ReasonOf(vm_->MapRange({Gfn(100), Gfn(101)}, level, true, {}).status()),
        ErrorReason::kFieldInvalid)
        << level;
  }
}

TEST_F(VmInputTest, FramesBeyondTheRootCannotBeWalked) {
  EXPECT_EQ(ReasonOf(vm_->WalkGfn(Gfn(uint64_t{1} << 36)).status()),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm_->WalkGfn(Gfn(kMax)).status()),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(vm_->WalkGfn(Gfn((uint64_t{1} << 36) - 1))->size(), 1u);
  const uint64_t bad[] = {1, kMax};
  EXPECT_EQ(ReasonOf(vm_->WalkFrames(bad).status()),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm_->WalkFrames({}).status()), ErrorReason::kFieldInvalid);
  const std::vector<uint64_t> many(limits::kMaxWalkFrames + 1, 0);
  EXPECT_EQ(ReasonOf(vm_->WalkFrames(many).status()),
            ErrorReason::kFieldInvalid);
  EXPECT_OK(vm_->WalkFrames(absl::MakeConstSpan(many).subspan(1)).status());
  std::vector<SpteView> views;
  EXPECT_EQ(ReasonOf(vm_->ViewFrames(bad, views)), ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm_->ViewFrames(many, views)), ErrorReason::kFieldInvalid);
  EXPECT_OK(vm_->ViewFrames(absl::MakeConstSpan(many).subspan(1), views));
  EXPECT_EQ(views.size(), many.size() - 1);
  EXPECT_OK(vm_->ViewFrames({}, views));
  EXPECT_TRUE(views.empty());
}

TEST_F(VmInputTest, MemslotsThatCannotBe) {
  const auto create = [&](uint64_t base, int64_t count) {
    return vm_
        ->CreateMemslot("bad", {.base_gfn = Gfn(base), .frame_count = count},
                        false)
        .status();
  };
  for (const int64_t count : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX,
                              limits::kMaxMemslotFrames + 1}) {
    EXPECT_EQ(ReasonOf(create(1 << 20, count)), ErrorReason::kFieldInvalid)
        << count;
  }
  for (const uint64_t base : {kMax, kMax - 1, uint64_t{1} << 52,
                              uint64_t{1} << 36, (uint64_t{1} << 36) - 1}) {
    EXPECT_EQ(ReasonOf(create(base, 2)), ErrorReason::kFieldInvalid) << base;
  }
  EXPECT_EQ(ReasonOf(create(1099, 1)), ErrorReason::kMemslotOverlap);
  EXPECT_EQ(
      ReasonOf(vm_->CreateMemslot("ram", {.frame_count = 1}, false).status()),
      ErrorReason::kResourceExists);
  EXPECT_OK(vm_->CreateMemslot(
                   "fine",
                   {.base_gfn = Gfn((uint64_t{1} << 36) - 1), .frame_count = 1},
                   /*validate_only=*/true)
                .status());
}

TEST_F(VmInputTest, WrongStatesSayWhatToDo) {
  EXPECT_EQ(ReasonOf(vm_->Start().status()), ErrorReason::kVmStateConflict);
  EXPECT_EQ(ReasonOf(vm_->Pause().status()), ErrorReason::kVmStateConflict);
  EXPECT_EQ(ReasonOf(vm_->Resume().status()), ErrorReason::kVmStateConflict);
  EXPECT_OK(vm_->Stop().status());
  ASSERT_OK(vm_->LoadGuest(
      -1, TouchGuestConfig{.range = {Gfn(5000), Gfn(5001)}, .pass_count = -1}));
  EXPECT_OK(vm_->Start().status());
  EXPECT_OK(vm_->Start().status());
  EXPECT_EQ(ReasonOf(registry_->DeleteVm("vm0", "")),
            ErrorReason::kVmStateConflict);
  EXPECT_OK(vm_->Pause().status());
  EXPECT_EQ(ReasonOf(vm_->Start().status()), ErrorReason::kVmStateConflict);
  EXPECT_OK(vm_->Pause().status());
  EXPECT_OK(vm_->Stop().status());
  EXPECT_OK(vm_->Stop().status());
}

TEST_F(VmInputTest, GuestsThatCannotBeLoaded) {
  EXPECT_EQ(ReasonOf(vm_->LoadGuest(0, CodeGuestConfig{.code = "\xf4"})),
            ErrorReason::kCapabilityMissing);
  EXPECT_EQ(
      ReasonOf(vm_->LoadGuest(2, TouchGuestConfig{.range = {Gfn(0), Gfn(1)}})),
      ErrorReason::kResourceNotFound);
  EXPECT_EQ(
      ReasonOf(vm_->LoadGuest(
          0, TouchGuestConfig{.range = {Gfn(0), Gfn(1)}, .pass_count = -2})),
      ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm_->GetVcpu(2).status()), ErrorReason::kResourceNotFound);
  EXPECT_EQ(ReasonOf(vm_->GetVcpu(-1).status()),
            ErrorReason::kResourceNotFound);
}

TEST_F(VmInputTest, MemoryOutsideMemslotsIsNeitherReadNorWritten) {
  EXPECT_EQ(ReasonOf(vm_->ReadMemory(Gpa(0), 1).status()),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(ReasonOf(vm_->ReadMemory(Gpa(kMax), 2).status()),
            ErrorReason::kFieldInvalid);
  const absl::Status status =
      vm_->WriteMemory(Gpa(1100 * kPageSize - 2), "abcd");
  EXPECT_EQ(ReasonOf(status), ErrorReason::kGfnNotBacked);
  EXPECT_EQ(*vm_->ReadMemory(Gpa(1100 * kPageSize - 2), 2),
            std::string(2, '\0'));
}

TEST_F(VmInputTest, VmConfigsThatCannotBe) {
  const auto create = [&](const VmConfig& config) {
    return registry_->CreateVm("bad", config, false).status();
  };
  EXPECT_EQ(ReasonOf(create({})), ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(create({.vcpu_count = -1})), ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(create({.vcpu_count = 65})), ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(create({.vcpu_count = 1, .root_level = 3})),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(create({.vcpu_count = 1, .page_table_limit_bytes = 1})),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(
      ReasonOf(registry_->CreateVm("vm0", {.vcpu_count = 1}, false).status()),
      ErrorReason::kResourceExists);
  EXPECT_EQ(ReasonOf(registry_->FindVm("bad").status()),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(ReasonOf(registry_->DeleteVm("bad", "")),
            ErrorReason::kResourceNotFound);
}

TEST_F(VmInputTest, FiveLevelRootsSpanMore) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1, {.root_level = 5});
  EXPECT_EQ(vm.WalkGfn(Gfn(uint64_t{1} << 36))->front().level,
            PageLevel::k256T);
  AddMemslot(vm, "high", uint64_t{1} << 37, 4);
  EXPECT_EQ(
      MapAll(vm, {Gfn(uint64_t{1} << 37), Gfn((uint64_t{1} << 37) + 4)}, true),
      4);
  EXPECT_EQ(vm.WalkGfn(Gfn(uint64_t{1} << 37))->size(), 5u);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_F(VmInputTest, CallsOnADeletedVmFindNothing) {
  CreateVm(HypervisorKind::kSoftware, 1);
  const std::shared_ptr<Vm> vm = *registry_->FindVm("vm1");
  AddMemslot(*vm, "ram", 0, 16);
  MapAll(*vm, {Gfn(0), Gfn(16)}, true);
  ASSERT_OK(registry_->DeleteVm("vm1", ""));
  EXPECT_EQ(ReasonOf(vm->Start().status()), ErrorReason::kResourceNotFound);
  EXPECT_EQ(ReasonOf(vm->MapRange({Gfn(0), Gfn(1)}, 0, true, {}).status()),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(
      ReasonOf(vm->CreateMemslot("x", {.frame_count = 1}, false).status()),
      ErrorReason::kResourceNotFound);
  EXPECT_TRUE(vm->ReadEvents(1, 100)->closed);
}

}  // namespace
}  // namespace tdp
