// Accesses that wait for a verdict, and frames that are given back.

#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

class VerdictTest : public VmOnEachHypervisorTest {
 protected:
  // A guest that touches frames [0, frames) once.
  Vm& Guest(int64_t frames, bool write, const MemslotConfig& config) {
    Vm& vm = CreateVm(GetParam(), 1);
    AddMemslot(vm, "ram", 0, frames, config);
    EXPECT_OK(vm.LoadGuest(
        0,
        TouchGuestConfig{.range = {Gfn(0), Gfn(static_cast<uint64_t>(frames))},
                         .write = write,
                         .pass_count = 1}));
    EXPECT_OK(vm.Start().status());
    return vm;
  }
  // Waits for an access younger than `seen`.
  static WaitingAccess Next(Vm& vm, int64_t seen) {
    for (;;) {
      const WaitingAccess access = AwaitWaiting(vm, 0);
      if (access.access_id != seen || HasFailure()) return access;
      absl::SleepFor(absl::Microseconds(100));
    }
  }
};

class DiscardTest : public VerdictTest {};

const MemslotConfig kWaits = {.fault_policy = FaultPolicy::kWait};

TEST_P(VerdictTest, GrantsLetAGuestOnFrameByFrame) {
  constexpr int64_t kFrames = 1000;
  Vm& vm = Guest(kFrames, /*write=*/true, kWaits);
  int64_t seen = 0;
  for (int64_t i = 0; i < kFrames; ++i) {
    const WaitingAccess access = Next(vm, seen);
    ASSERT_EQ(access.gfn, Gfn(static_cast<uint64_t>(i)));
    ASSERT_EQ(access.cause, WaitCause::kFaultPolicy);
    const auto listed = vm.ListWaitingAccesses();
    ASSERT_EQ(listed.size(), 1u);
    ASSERT_EQ(listed[0].access_id, access.access_id);
    // Memslots come and go while it waits.
    if (i % 100 == 0) {
      AddMemslot(vm, "other", 4096, 16);
      ASSERT_OK(vm.DeleteMemslot("other", ""));
    }
    ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kGrant));
    seen = access.access_id;
  }
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, kFrames, '\x01');
  EXPECT_TRUE(vm.ListWaitingAccesses().empty());
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VerdictTest, ARetryThatFindsNothingNewWaitsAgain) {
  Vm& vm = Guest(4, /*write=*/true, kWaits);
  const WaitingAccess first = AwaitWaiting(vm, 0);
  ASSERT_OK(vm.ResolveAccess(first.access_id, Verdict::kRetry));
  const WaitingAccess second = Next(vm, first.access_id);
  EXPECT_EQ(second.gfn, first.gfn);
  EXPECT_EQ(ReasonOf(vm.ResolveAccess(first.access_id, Verdict::kRetry)),
            ErrorReason::kResourceNotFound);
  ASSERT_OK(vm.Stop().status());
  EXPECT_TRUE(vm.ListWaitingAccesses().empty());
}

TEST_P(VerdictTest, AKilledGuestFailsAndHasNotDoneTheAccess) {
  Vm& vm = Guest(4, /*write=*/true, kWaits);
  const WaitingAccess access = AwaitWaiting(vm, 0);
  ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kKill));
  AwaitState(vm, VmState::kFailed);
  while (vm.GetVcpu(0)->state != VcpuState::kExited) {
    absl::SleepFor(absl::Microseconds(200));
  }
  EXPECT_EQ(vm.Describe().state, VmState::kFailed);
  ExpectBytes(vm, 0, 4, '\0');
  EXPECT_EQ(ReasonOf(vm.ResolveAccess(access.access_id, Verdict::kGrant)),
            ErrorReason::kVmStateConflict);
}

TEST_P(VerdictTest, AKillOfAnAccessThatNoLongerWaitsChangesNothing) {
  Vm& vm = Guest(4, /*write=*/true, kWaits);
  const WaitingAccess first = AwaitWaiting(vm, 0);
  ASSERT_OK(vm.ResolveAccess(first.access_id, Verdict::kGrant));
  Next(vm, first.access_id);
  EXPECT_EQ(ReasonOf(vm.ResolveAccess(first.access_id, Verdict::kKill)),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(vm.Describe().state, VmState::kRunning);
  ASSERT_OK(vm.Stop().status());
  EXPECT_EQ(ReasonOf(vm.ResolveAccess(first.access_id, Verdict::kKill)),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(vm.Describe().state, VmState::kStopped);
}

TEST_P(VerdictTest, AGrantIsNoWriteUntilTheGuestMakesIt) {
  Vm& vm =
      Guest(4, /*write=*/true,
            {.dirty_log_enabled = true, .fault_policy = FaultPolicy::kWait});
  const WaitingAccess access = AwaitWaiting(vm, 0);
  ASSERT_OK(vm.Pause().status());
  ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kGrant));
  const auto dirty = [&] {
    return vm.ReadDirtyLog("ram", "", {Gfn(0), Gfn(4)})->bits;
  };
  EXPECT_EQ(dirty(), std::string(1, '\0'));
  ASSERT_OK(vm.Resume().status());
  Next(vm, access.access_id);
  EXPECT_EQ(dirty(), "\x01");
  ASSERT_OK(vm.Stop().status());
}

TEST_P(VerdictTest, AGrantLiftsALimitForItsFrameAlone) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 8);
  ASSERT_OK(vm.ProtectRange({Gfn(2), Gfn(6)}, {.read = true}, {}).status());
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(0), Gfn(8)}, .write = true}));
  ASSERT_OK(vm.Start().status());
  int64_t seen = 0;
  for (uint64_t gfn = 2; gfn < 6; ++gfn) {
    const WaitingAccess access = Next(vm, seen);
    ASSERT_EQ(access.gfn, Gfn(gfn));
    ASSERT_EQ(access.cause, WaitCause::kProtection);
    ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kGrant));
    seen = access.access_id;
  }
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, 8, '\x01');
}

TEST_P(VerdictTest, AGrantNeverExceedsTheMemslot) {
  Vm& vm = Guest(4, /*write=*/true, {.read_only = true});
  const WaitingAccess access = AwaitWaiting(vm, 0);
  EXPECT_EQ(ReasonOf(vm.ResolveAccess(access.access_id, Verdict::kGrant)),
            ErrorReason::kOperationConflict);
  EXPECT_EQ(vm.ListWaitingAccesses().size(), 1u) << "it waits on";
  ASSERT_OK(vm.UpdateMemslot("ram", {.read_only = false}, "").status());
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, 4, '\x01');
}

TEST_P(DiscardTest, FreesWhatTheHostHeldAndReadsAsZero) {
  Vm& vm = Guest(64, /*write=*/true, {});
  AwaitState(vm, VmState::kStopped);
  const auto result = vm.DiscardRange({Gfn(8), Gfn(16)}, {});
  ASSERT_OK(result.status());
  EXPECT_EQ(result->next_gfn, Gfn(16));
  EXPECT_EQ(result->freed_bytes, int64_t{8} * kPageSize);
  ExpectBytes(vm, 0, 8, '\x01');
  ExpectBytes(vm, 8 * kPageSize, 8, '\0');
  ExpectBytes(vm, 16 * kPageSize, 48, '\x01');
  const auto again = vm.DiscardRange({Gfn(8), Gfn(16)}, {});
  ASSERT_OK(again.status());
  EXPECT_EQ(again->freed_bytes, 0) << "there was nothing to free";
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(DiscardTest, AGuestThatRunsSeesZeroOrWhatItWroteSince) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 256);
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{
             .range = {Gfn(0), Gfn(256)}, .write = true, .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  for (int i = 0; i < 300; ++i) {
    ASSERT_OK(vm.DiscardRange({Gfn(0), Gfn(256)}, {}).status());
    ExpectCleanAudit(vm, WholeRange(vm));
  }
  ASSERT_OK(vm.Pause().status());
  ASSERT_OK(vm.DiscardRange({Gfn(0), Gfn(256)}, {}).status());
  ExpectBytes(vm, 0, 256, '\0');
  ASSERT_OK(vm.Resume().status());
  ASSERT_OK(vm.Stop().status());
}

TEST_P(DiscardTest, AFrameWithoutMemslotRefusesAll) {
  Vm& vm = Guest(16, /*write=*/true, {});
  AwaitState(vm, VmState::kStopped);
  EXPECT_EQ(ReasonOf(vm.DiscardRange({Gfn(0), Gfn(17)}, {}).status()),
            ErrorReason::kGfnNotBacked);
  ExpectBytes(vm, 0, 16, '\x01');
  EXPECT_EQ(ReasonOf(vm.DiscardRange({Gfn(3), Gfn(3)}, {}).status()),
            ErrorReason::kFieldInvalid);
}

INSTANTIATE_ON_EACH_HYPERVISOR(VerdictTest);
INSTANTIATE_ON_EACH_HYPERVISOR(DiscardTest);

}  // namespace
}  // namespace tdp
