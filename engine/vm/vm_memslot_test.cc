// Memslots of a VM: sources, read-only, moves, guest memory behind the guest's
// back.

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "engine/base/errors.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

class VmMemslotTest : public VmTest {
 protected:
  void SetUp() override {
    char path[] = "/tmp/tdpd-images-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    image_dir_ = path;
    options_.image_dir = image_dir_;
    VmTest::SetUp();
  }
  void TearDown() override { std::filesystem::remove_all(image_dir_); }

  void WriteImage(const std::string& name, const std::string& bytes) {
    std::ofstream(image_dir_ + "/" + name, std::ios::binary) << bytes;
  }

  std::string image_dir_;
};

TEST_F(VmMemslotTest, SourceIsReadAtFirstMapAndZeroPastItsEnd) {
  std::string image(3 * kPageSize + 100, 'a');
  image[kPageSize] = 'b';
  WriteImage("disk.img", image);
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 16, 8,
             {.source = FileSourceConfig{"disk.img", kPageSize}});
  // Before any map: the file's bytes, from the offset on.
  EXPECT_EQ(*vm.ReadMemory(Gpa(16 * kPageSize), 2), "ba");
  EXPECT_EQ(MapAll(vm, {Gfn(16), Gfn(24)}, true), 8);
  EXPECT_EQ(*vm.ReadMemory(Gpa(16 * kPageSize), 2), "ba");
  EXPECT_EQ(*vm.ReadMemory(Gpa(18 * kPageSize + 99), 2), std::string("a\0", 2));
  EXPECT_EQ(*vm.ReadMemory(Gpa(23 * kPageSize), 1), std::string(1, '\0'));
  // A guest reads it, too.
  ASSERT_OK(vm.LoadGuest(0, TouchGuestConfig{.range = {Gfn(16), Gfn(24)}}));
  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().fault_fixed_count, 0);
  ExpectCleanAudit(vm, {Gfn(16), Gfn(24)});
}

TEST_F(VmMemslotTest, WritingPartOfASourceFrameLoadsItFirst) {
  WriteImage("disk.img", std::string(kPageSize, 'x'));
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 0, 2, {.source = FileSourceConfig{"disk.img", 0}});
  ASSERT_OK(vm.WriteMemory(Gpa(10), "yy"));
  EXPECT_EQ(*vm.ReadMemory(Gpa(9), 4), "xyyx");
  std::ifstream file(image_dir_ + "/disk.img", std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}),
            std::string(kPageSize, 'x'))
      << "the file is never written";
}

TEST_F(VmMemslotTest, MissingFileAndEscapingPathsAreRefused) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  const auto create = [&](const std::string& path) {
    MemslotConfig config = {.frame_count = 1};
    config.source = FileSourceConfig{path, 0};
    return vm.CreateMemslot("ram", config, false).status();
  };
  for (const char* path :
       {"missing", "../secret", "/etc/passwd", "a/../../b", ""}) {
    EXPECT_EQ(DetailOf(create(path))->reason, ErrorReason::kFieldInvalid)
        << path;
  }
  EXPECT_TRUE(vm.ListMemslots().empty());
}

TEST_F(VmMemslotTest, WriteToReadOnlyMemslotByTheDaemonSucceeds) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "rom", 0, 4, {.read_only = true});
  ASSERT_OK(vm.WriteMemory(Gpa(1), "rom"));
  EXPECT_EQ(*vm.ReadMemory(Gpa(0), 5), std::string("\0rom\0", 5));
  EXPECT_EQ(MapAll(vm, {Gfn(0), Gfn(4)}, /*write=*/true), 4);
  const auto path = *vm.WalkGfn(Gfn(0));
  EXPECT_TRUE(path.back().leaf);
  EXPECT_FALSE(path.back().access.write);
  EXPECT_FALSE(path.back().host_writable);
  ExpectCleanAudit(vm, {Gfn(0), Gfn(4)});
}

TEST_F(VmMemslotTest, OverlapNamesBothAndChangesNothing) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "low", 0, 16);
  const auto status =
      vm.CreateMemslot("high", {.base_gfn = Gfn(15), .frame_count = 2}, false)
          .status();
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kMemslotOverlap);
  EXPECT_NE(status.message().find("low"), absl::string_view::npos);
  EXPECT_NE(status.message().find("high"), absl::string_view::npos);
  AddMemslot(vm, "high", 16, 2);
  EXPECT_EQ(vm.ListMemslots().size(), 2u);
  EXPECT_EQ(
      DetailOf(vm.UpdateMemslot("high", {.base_gfn = Gfn(1)}, "").status())
          ->reason,
      ErrorReason::kMemslotOverlap);
  EXPECT_EQ(vm.GetMemslot("high")->config.base_gfn, Gfn(16));
}

TEST_F(VmMemslotTest, MovedMemslotKeepsItsBytesAndLosesItsMappings) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 512, 1024);
  ASSERT_OK(vm.WriteMemory(Gpa(512 * kPageSize), "here"));
  MapAll(vm, {Gfn(512), Gfn(1536)}, true);
  EXPECT_EQ(vm.Stats().leaf_2m_count, 2);
  const std::string old_etag = vm.GetMemslot("ram")->etag;
  ASSERT_OK(vm.UpdateMemslot("ram", {.base_gfn = Gfn(3)}, old_etag).status());
  EXPECT_EQ(vm.Stats().leaf_2m_count, 0);
  EXPECT_EQ(*vm.ReadMemory(Gpa(3 * kPageSize), 4), "here");
  EXPECT_EQ(
      DetailOf(vm.ReadMemory(Gpa(512 * kPageSize + (1 << 30)), 1).status())
          ->reason,
      ErrorReason::kGfnNotBacked);
  EXPECT_EQ(DetailOf(vm.UpdateMemslot("ram", {}, old_etag).status())->reason,
            ErrorReason::kEtagMismatch);
  MapAll(vm, {Gfn(3), Gfn(1027)}, true);
  ExpectCleanAudit(vm, {Gfn(0), Gfn(4096)});
}

TEST_F(VmMemslotTest, ThousandMemslotsComeAndGo) {
  Vm& vm = CreateVm(HypervisorKind::kUnspecified, 1);
  const int64_t count =
      std::min<int64_t>(registry_->limits().at("max_memslots"), 1024);
  for (int64_t i = 0; i < count; ++i) {
    AddMemslot(vm, absl::StrCat("s", i), static_cast<uint64_t>(i) * 2, 1);
  }
  EXPECT_EQ(MapAll(vm, {Gfn(0), Gfn(1)}, true), 1);
  const auto status =
      vm.CreateMemslot("more", {.base_gfn = Gfn(1 << 20), .frame_count = 1},
                       false)
          .status();
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kLimitReached);
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_OK(vm.DeleteMemslot(absl::StrCat("s", i), ""));
  }
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
}

TEST_F(VmMemslotTest, SparseMemslotsOf64GiBWalkInBoundedPieces) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  constexpr uint64_t kGiBFrames = 1 << 18;
  for (uint64_t i = 0; i < 16; ++i) {
    AddMemslot(vm, absl::StrCat("s", i), i * 8 * kGiBFrames, 4 * kGiBFrames);
    MapAll(vm, {Gfn(i * 8 * kGiBFrames + 5), Gfn(i * 8 * kGiBFrames + 6)},
           false);
  }
  GfnRange range = {Gfn(0), Gfn(16 * 8 * kGiBFrames)};
  std::vector<SpteView> entries;
  int leaves = 0;
  Gfn next = range.start;
  int calls = 0;
  while (next < range.end) {
    entries.clear();
    const auto step = vm.WalkRange(
        range, {.leaves_only = true, .present_only = true, .resume_gfn = next},
        100, entries);
    ASSERT_TRUE(step.ok()) << step.status();
    ASSERT_GT(*step, next);
    next = *step;
    leaves += static_cast<int>(entries.size());
    ++calls;
  }
  EXPECT_EQ(leaves, 16);
  EXPECT_LE(calls, 16);
}

TEST_F(VmMemslotTest, PageTableLimitIsAnErrorAndZapAllIsTheWayOut) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1,
                    {.page_table_limit_bytes = 64 << 10});
  constexpr uint64_t kGiBFrames = 1 << 18;
  AddMemslot(vm, "ram", 0, 64 * kGiBFrames);
  absl::Status status;
  int mapped = 0;
  for (uint64_t i = 0; i < 64 && status.ok(); ++i, ++mapped) {
    status =
        vm.MapRange({Gfn(i * kGiBFrames), Gfn(i * kGiBFrames + 1)}, 1, true, {})
            .status();
  }
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kPageTableLimit);
  EXPECT_LE(vm.Stats().page_table_bytes, (64 << 10) + 2 * 4096);
  EXPECT_GE(mapped, 5);
  ASSERT_OK(vm.ZapAll(true).status());
  ASSERT_OK(vm.MapRange({Gfn(0), Gfn(1)}, 1, true, {}).status());
  ExpectCleanAudit(vm, {Gfn(0), Gfn(4096)});
}

}  // namespace
}  // namespace tdp
