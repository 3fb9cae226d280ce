// Sources that fail while a guest runs: never a silent zero page.

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <variant>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/vm_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using ::testing::HasSubstr;

class SourceTest : public VmOnEachHypervisorTest {
 protected:
  static constexpr int64_t kFrames = 8;

  void SetUp() override {
    char path[] = "/tmp/tdpd-images-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    image_dir_ = path;
    options_.image_dir = image_dir_;
    VmOnEachHypervisorTest::SetUp();
  }
  void TearDown() override { std::filesystem::remove_all(image_dir_); }

  void WriteImage(int64_t frames) {
    std::ofstream(image_dir_ + "/disk.img", std::ios::binary | std::ios::trunc)
        << std::string(static_cast<size_t>(frames) * kPageSize, 'f');
  }
  // The file loses all but its first `frames` frames.
  void Shorten(int64_t frames) {
    ASSERT_EQ(truncate((image_dir_ + "/disk.img").c_str(),
                       static_cast<off_t>(frames) * kPageSize),
              0);
  }
  // A guest that reads every frame of a source that was shortened.
  Vm& GuestOnShortSource(int64_t frames_left) {
    WriteImage(kFrames);
    Vm& vm = CreateVm(GetParam(), 1);
    AddMemslot(vm, "ram", 0, kFrames,
               {.source = FileSourceConfig{"disk.img", 0}});
    Shorten(frames_left);
    EXPECT_OK(vm.LoadGuest(0, TouchGuestConfig{.range = WholeRange(vm)}));
    EXPECT_OK(vm.Start().status());
    return vm;
  }

  std::string image_dir_;
};

TEST_P(SourceTest, AnAccessToLostBytesWaitsAndGoesOnWhenTheyAreBack) {
  Vm& vm = GuestOnShortSource(3);
  const WaitingAccess access = AwaitWaiting(vm, 0);
  EXPECT_EQ(access.gfn, Gfn(3));
  EXPECT_EQ(access.cause, WaitCause::kSourceFailed);
  EXPECT_THAT(access.detail, HasSubstr("disk.img"));
  EXPECT_THAT(access.detail, HasSubstr("0x3"));
  EXPECT_GT(vm.Stats().fault_source_error_count, 0);
  const auto events = vm.ReadEvents(1, 100);
  ASSERT_OK(events.status());
  int told = 0;
  for (const Event& event : events->events) {
    const auto* waiting = std::get_if<WaitingAccess>(&event.detail);
    told += waiting != nullptr && waiting->cause == WaitCause::kSourceFailed;
  }
  EXPECT_EQ(told, 1);
  // Looking again without a repair ends where it began.
  ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kRetry));
  WaitingAccess again = AwaitWaiting(vm, 0);
  while (again.access_id == access.access_id && !HasFailure()) {
    absl::SleepFor(absl::Microseconds(200));
    again = AwaitWaiting(vm, 0);
  }
  EXPECT_EQ(again.gfn, Gfn(3));
  WriteImage(kFrames);
  ASSERT_OK(vm.ResolveAccess(again.access_id, Verdict::kRetry));
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, kFrames, 'f');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(SourceTest, AGrantOfLostBytesFailsAndLeavesTheLimit) {
  WriteImage(kFrames);
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames,
             {.source = FileSourceConfig{"disk.img", 0}});
  ASSERT_OK(vm.ProtectRange({Gfn(2), Gfn(3)}, {}, {}).status());
  Shorten(2);
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(2), Gfn(3)}, .write = true}));
  ASSERT_OK(vm.Start().status());
  const WaitingAccess access = AwaitWaiting(vm, 0);
  EXPECT_EQ(access.cause, WaitCause::kProtection);
  EXPECT_EQ(ReasonOf(vm.ResolveAccess(access.access_id, Verdict::kGrant)),
            ErrorReason::kSourceFailed);
  WriteImage(kFrames);
  // The limit stands: looking again is not enough.
  ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kRetry));
  WaitingAccess again = AwaitWaiting(vm, 0);
  while (again.access_id == access.access_id && !HasFailure()) {
    absl::SleepFor(absl::Microseconds(200));
    again = AwaitWaiting(vm, 0);
  }
  EXPECT_EQ(again.cause, WaitCause::kProtection);
  ASSERT_OK(vm.ResolveAccess(again.access_id, Verdict::kGrant));
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 2 * kPageSize, 1, '\x01');
}

TEST_P(SourceTest, AMapSaysWhichFrameFailedAndKeepsWhatItMapped) {
  WriteImage(kFrames);
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames,
             {.source = FileSourceConfig{"disk.img", 0}});
  Shorten(5);
  const absl::Status status =
      vm.MapRange(WholeRange(vm), 1, /*write=*/true, {}).status();
  EXPECT_EQ(ReasonOf(status), ErrorReason::kSourceFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("frame 0x5"));
  EXPECT_EQ(MapAll(vm, {Gfn(0), Gfn(5)}, /*write=*/true, 1), 5);
  EXPECT_EQ(*vm.ReadMemory(Gpa(4 * kPageSize), 1), "f");
  EXPECT_EQ(ReasonOf(vm.ReadMemory(Gpa(5 * kPageSize), 1).status()),
            ErrorReason::kSourceFailed);
}

// The VM can be stopped and deleted while a source fails.
TEST_P(SourceTest, AGuestThatWaitsForItsSourceCanBeStopped) {
  Vm& vm = GuestOnShortSource(0);
  AwaitWaiting(vm, 0);
  ASSERT_OK(vm.Pause().status());
  ASSERT_OK(vm.Resume().status());
  ASSERT_OK(vm.Stop().status());
  EXPECT_TRUE(vm.ListWaitingAccesses().empty());
  EXPECT_EQ(vm.GetVcpu(0)->touched_frame_count, 0);
}

INSTANTIATE_ON_EACH_HYPERVISOR(SourceTest);

}  // namespace
}  // namespace tdp
