// Memslots of 2M host pages: the pool, what is refused, the verbs.

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "engine/vm/vm_huge_page_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using ::testing::IsEmpty;

class VmHugePageTest : public VmHugePageFixture {
 protected:
  static absl::Status Create(Vm& vm, uint64_t base, int64_t frames,
                             int level = 2) {
    MemslotConfig config;
    config.base_gfn = Gfn(base);
    config.frame_count = frames;
    config.host_page_level = level;
    return vm.CreateMemslot("ram", config, false).status();
  }
};

TEST_P(VmHugePageTest, AGuestRunsOnMappingsOf2MAlone) {
  Vm& vm = VmWithPages(4);
  EXPECT_EQ(pool.Free(), kPoolPages - 4);
  Touch(vm, WholeRange(vm), /*write=*/true);
  const VmStats stats = vm.Stats();
  EXPECT_EQ(stats.leaf_2m_count, 4);
  EXPECT_EQ(stats.leaf_4k_count, 0);
  EXPECT_EQ(stats.fault_fixed_count, 4);
  EXPECT_EQ(vm.ListMemslots()[0].config.host_page_level, 2);
  ExpectBytes(vm, 0, 4 * kPage, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageTest, APoolThatIsTooSmallRefusesTheMemslotAndKeepsItsPages) {
  Vm& vm = CreateVm(GetParam(), 1);
  const absl::Status status = Create(vm, 0, (kPoolPages + 1) * kPage);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ReasonOf(status), ErrorReason::kHostMemoryExhausted);
  EXPECT_EQ(pool.Free(), kPoolPages);
  EXPECT_THAT(vm.ListMemslots(), IsEmpty());
  // The VM is as good as before.
  ASSERT_OK(Create(vm, 0, kPoolPages * kPage));
  EXPECT_EQ(pool.Free(), 0);
  Touch(vm, WholeRange(vm), /*write=*/true);
  ASSERT_OK(vm.DeleteMemslot("ram", ""));
  EXPECT_EQ(pool.Free(), kPoolPages);
}

TEST_P(VmHugePageTest, ADeletedVmGivesItsPagesBack) {
  Vm& vm = VmWithPages(kPoolPages);
  Load(vm, WholeRange(vm), /*write=*/true, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  const std::string id = vm.Describe().id;
  ASSERT_OK(vm.Stop().status());
  ASSERT_OK(registry_->DeleteVm(id, ""));
  EXPECT_EQ(pool.Free(), kPoolPages);
}

TEST_P(VmHugePageTest, AMemslotThatIsNotMadeOfWholePagesIsRefused) {
  Vm& vm = CreateVm(GetParam(), 1);
  for (const absl::Status& status :
       {Create(vm, 1, kPage), Create(vm, kPage / 2, kPage),
        Create(vm, 0, kPage + 1), Create(vm, 0, 1),
        Create(vm, 0, kPage, /*level=*/3)}) {
    EXPECT_EQ(ReasonOf(status), ErrorReason::kFieldInvalid) << status;
  }
  EXPECT_EQ(pool.Free(), kPoolPages);
  ASSERT_OK(Create(vm, kPage, kPage));
  EXPECT_EQ(
      ReasonOf(
          vm.UpdateMemslot("ram", {.base_gfn = Gfn(kPage + 8)}, "").status()),
      ErrorReason::kFieldInvalid);
}

TEST_P(VmHugePageTest, AMovedMemslotKeepsItsBytesAndItsPages) {
  Vm& vm = VmWithPages(2);
  Touch(vm, WholeRange(vm), /*write=*/true);
  ASSERT_OK(vm.UpdateMemslot("ram", {.base_gfn = Gfn(kPage)}, "").status());
  EXPECT_EQ(vm.Stats().leaf_2m_count, 0);
  EXPECT_EQ(pool.Free(), kPoolPages - 2);
  ExpectBytes(vm, kPage * kPageSize, 2 * kPage, '\x01');
  Touch(vm, WholeRange(vm), /*write=*/true);
  EXPECT_EQ(vm.Stats().leaf_2m_count, 2);
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageTest, WhatCutsAPageIsRefusedAndChangesNothing) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "low", 0, kPage);
  AddMemslot(vm, "ram", kPage, 2 * kPage, Huge());
  const GfnRange all = WholeRange(vm);
  MapAll(vm, all, /*write=*/true);
  ASSERT_OK(vm.WriteMemory(GpaOf(Gfn(kPage)), "bytes"));
  const auto batch = [&](BatchOperation operation) {
    // The first operation alone would be welcome.
    return vm.ApplyBatch({{.range = Frames(0, 8)}, operation}).status();
  };
  for (const GfnRange range :
       {Frames(8, kPage + 1), Frames(kPage + 1, 2 * kPage),
        Frames(kPage + 3, kPage + 4), Frames(kPage, 3 * kPage - 1)}) {
    const std::vector<absl::Status> refused = {
        vm.MapRange(range, 0, true, Unhurried()).status(),
        vm.ZapRange(range, Unhurried()).status(),
        vm.ProtectRange(range, {.read = true}, Unhurried()).status(),
        vm.WriteProtectRange(range, 0, Unhurried()).status(),
        vm.AgeRange(range, {}, Unhurried()).status(),
        vm.DiscardRange(range, Unhurried()).status(),
        batch({.kind = BatchOperation::Kind::kZap, .range = range}),
        batch({.kind = BatchOperation::Kind::kProtect, .range = range}),
        batch({.kind = BatchOperation::Kind::kWriteProtect, .range = range}),
        batch({.kind = BatchOperation::Kind::kMap, .range = range}),
    };
    for (size_t i = 0; i < refused.size(); ++i) {
      // The batch's operations overlap.
      if (i > 5 && range.start < Gfn(9)) continue;
      EXPECT_EQ(ReasonOf(refused[i]), ErrorReason::kGranuleUnsupported)
          << i << ": " << refused[i];
    }
  }
  const std::vector<absl::Status> too_small = {
      vm.MapRange(all, /*max_level=*/1, true, Unhurried()).status(),
      vm.SplitHugePages(all, /*target_level=*/1, Unhurried()).status(),
      batch({.kind = BatchOperation::Kind::kMap,
             .range = Frames(kPage, 2 * kPage),
             .level = 1}),
  };
  for (const absl::Status& status : too_small) {
    EXPECT_EQ(ReasonOf(status), ErrorReason::kGranuleUnsupported) << status;
  }
  const VmStats stats = vm.Stats();
  EXPECT_EQ(stats.leaf_2m_count, 3);
  EXPECT_EQ(stats.leaf_4k_count, 0);
  EXPECT_EQ(*vm.ReadMemory(GpaOf(Gfn(kPage)), 5), "bytes");
  const auto path = vm.WalkGfn(Gfn(kPage));
  ASSERT_OK(path.status());
  EXPECT_TRUE(path->back().leaf && path->back().access.write);
  ExpectCleanAudit(vm, all);
}

TEST_P(VmHugePageTest, RangesOverSeveralMemslotsDoWhatEachOfThemAllows) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "low", 0, 2 * kPage);
  AddMemslot(vm, "ram", 2 * kPage, 2 * kPage, Huge());
  AddMemslot(vm, "high", 4 * kPage, 100);
  const GfnRange all = Frames(3, 4 * kPage + 50);
  const auto leaves = [&] {
    return std::pair(vm.Stats().leaf_4k_count, vm.Stats().leaf_2m_count);
  };
  const auto both = [](uint64_t small, uint64_t large) {
    return std::pair(static_cast<int64_t>(small), static_cast<int64_t>(large));
  };
  EXPECT_EQ(MapAll(vm, all, /*write=*/true), static_cast<int64_t>(all.size()));
  EXPECT_EQ(leaves(), both(kPage - 3 + 50, 3));
  ASSERT_OK(vm.ProtectRange(all, {.read = true}, Unhurried()).status());
  ASSERT_OK(vm.ProtectRange(all, {.read = true, .write = true}, Unhurried())
                .status());
  ASSERT_OK(vm.WriteProtectRange(all, 0, Unhurried()).status());
  ASSERT_OK(vm.SplitHugePages(all, /*target_level=*/2, Unhurried()).status());
  ASSERT_OK(vm.CollapseHugePages(all, /*max_level=*/3, Unhurried()).status());
  const auto aged = vm.AgeRange(all, {.bitmap = true}, Unhurried());
  ASSERT_OK(aged.status());
  EXPECT_EQ(aged->young_frame_count, static_cast<int64_t>(all.size()));
  EXPECT_EQ(leaves(), both(kPage - 3 + 50, 3));
  Touch(vm, all, /*write=*/true);
  ExpectCleanAudit(vm, WholeRange(vm));
  const auto batch =
      vm.ApplyBatch({{.kind = BatchOperation::Kind::kZap, .range = all}});
  ASSERT_OK(batch.status());
  EXPECT_EQ(batch->changed_spte_count,
            static_cast<int64_t>(kPage - 3 + 50 + 3));
  const auto discarded = vm.DiscardRange(all, Unhurried());
  ASSERT_OK(discarded.status());
  EXPECT_EQ(discarded->next_gfn, all.end);
  EXPECT_EQ(discarded->freed_bytes,
            static_cast<int64_t>(all.size() * kPageSize));
  EXPECT_EQ(leaves(), both(0, 0));
}

TEST_P(VmHugePageTest, TablesThatAnotherMemslotLeftAreInNobodysWay) {
  for (const bool zapping : {false, true}) {
    Vm& vm = CreateVm(GetParam(), 1);
    AddMemslot(vm, "old", 0, 3 * kPage);
    MapAll(vm, WholeRange(vm), /*write=*/true, /*max_level=*/1);
    // Its tables are in an invalidated root, or in the valid one.
    if (zapping) ASSERT_OK(vm.ZapAll(/*wait=*/false).status());
    ASSERT_OK(vm.DeleteMemslot("old", ""));
    AddMemslot(vm, "ram", 0, 3 * kPage, Huge());
    ASSERT_OK(vm.ApplyBatch({{.kind = BatchOperation::Kind::kMap,
                              .range = Frames(0, kPage),
                              .write = true}})
                  .status());
    Touch(vm, WholeRange(vm), /*write=*/true);
    EXPECT_EQ(vm.Stats().leaf_2m_count, 3);
    EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
    ExpectCleanAudit(vm, WholeRange(vm));
    ASSERT_OK(vm.DeleteMemslot("ram", ""));
  }
}

TEST_P(VmHugePageTest, ABatchMapsAndZapsWholePages) {
  Vm& vm = VmWithPages(4);
  MapAll(vm, Frames(0, kPage), /*write=*/true);
  const auto result = vm.ApplyBatch(
      {{.kind = BatchOperation::Kind::kZap, .range = Frames(0, kPage)},
       {.kind = BatchOperation::Kind::kMap,
        .range = Frames(kPage, 3 * kPage),
        .write = true},
       {.kind = BatchOperation::Kind::kProtect,
        .range = Frames(3 * kPage, 4 * kPage),
        .access = {.read = true}}});
  ASSERT_OK(result.status());
  EXPECT_EQ(result->changed_spte_count, 3);
  EXPECT_EQ(vm.Stats().leaf_2m_count, 2);
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  Touch(vm, Frames(kPage, 3 * kPage), /*write=*/true);
  EXPECT_EQ(vm.Stats().fault_fixed_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageTest, TheHostSaysWhetherItHasHugePages) {
  for (const HostCapability& capability : registry_->capabilities()) {
    if (capability.name != "hugetlb") continue;
    EXPECT_TRUE(capability.available) << capability.hint;
    EXPECT_EQ(capability.hint, "");
    return;
  }
  FAIL() << "no such capability";
}

INSTANTIATE_ON_EACH_HYPERVISOR(VmHugePageTest);

}  // namespace
}  // namespace tdp
