// vCPUs that wait: how soon one is stopped, that what it waits for is not done
// by the way out, and that it does not spin.

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/kvm/vcpu_kicker.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

// What takes a vCPU out of the guest must take no longer. A machine with other
// work may be slow at any try, hardly at all of them.
constexpr absl::Duration kSoon = absl::Milliseconds(100);
constexpr int kTries = 10;

constexpr uint64_t kFrames = 16;
const MemslotConfig kWaits = {.fault_policy = FaultPolicy::kWait};

// The thread of vCPU 0. REQUIRES: one VM has vCPU threads.
pid_t VcpuThread() {
  const absl::Time end = absl::Now() + absl::Seconds(60);
  while (absl::Now() < end) {
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream file(task.path() / "comm");
      std::string name;
      int thread = 0;
      if (std::getline(file, name) && name == "tdpd-vcpu0" &&
          absl::SimpleAtoi(task.path().filename().string(), &thread)) {
        return thread;
      }
    }
    // A thread that has just begun has no name yet.
    absl::SleepFor(absl::Microseconds(200));
  }
  ADD_FAILURE() << "no vCPU thread";
  return 0;
}

// In user space and in the kernel.
absl::Duration CpuTimeOf(pid_t thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/stat"));
  std::string line;
  std::getline(file, line);
  // Behind the name, which may hold blanks: state is field 3, utime 14,
  // stime 15.
  const std::vector<std::string> fields =
      absl::StrSplit(line.substr(line.rfind(')') + 2), ' ');
  int64_t user = 0;
  int64_t system = 0;
  EXPECT_TRUE(fields.size() > 12 && absl::SimpleAtoi(fields[11], &user) &&
              absl::SimpleAtoi(fields[12], &system))
      << line;
  return absl::Seconds(user + system) / sysconf(_SC_CLK_TCK);
}

// Computes until this thread has had 200 ms of a CPU: by then, a thread that
// spins has had about as much.
void Compute() {
  const auto used = [] {
    timespec now = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return absl::DurationFromTimespec(now);
  };
  const absl::Duration end = used() + absl::Milliseconds(200);
  while (used() < end) {
  }
}

void ExpectSleeps(pid_t vcpu_thread) {
  const absl::Duration before = CpuTimeOf(vcpu_thread);
  Compute();
  EXPECT_LT(CpuTimeOf(vcpu_thread) - before, absl::Milliseconds(40));
}

class WaitingTest : public VmOnEachHypervisorTest {
 protected:
  // A guest that writes to frames [0, kFrames), and waits with the first one.
  Vm& Waiting(const MemslotConfig& config = kWaits) {
    Vm& vm = CreateVm(GetParam(), 1);
    StartWaiting(vm, config);
    return vm;
  }
  static void StartWaiting(Vm& vm, const MemslotConfig& config) {
    AddMemslot(vm, "ram", 0, kFrames, config);
    if (config.fault_policy != FaultPolicy::kWait && !config.read_only) {
      EXPECT_OK(vm.ProtectRange(WholeRange(vm), {.read = true}, {}).status());
    }
    Load(vm, /*passes=*/1);
    EXPECT_OK(vm.Start().status());
    EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(0));
  }
  static void Load(Vm& vm, int64_t passes) {
    EXPECT_OK(vm.LoadGuest(0, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)},
                                               .write = true,
                                               .pass_count = passes}));
  }
  static void AwaitOnePass(const Vm& vm) {
    const absl::Time end = absl::Now() + kPatience;
    while (vm.GetVcpu(0)->touched_frame_count < static_cast<int64_t>(kFrames)) {
      ASSERT_LT(absl::Now(), end) << "the guest does not go on";
      absl::SleepFor(absl::Microseconds(200));
    }
  }

  // The least time that `act` takes in some tries.
  static absl::Duration Fastest(std::function<void()> prepare,
                                std::function<void()> act) {
    absl::Duration fastest = absl::InfiniteDuration();
    for (int i = 0; i < kTries && !HasFailure(); ++i) {
      prepare();
      const absl::Time begin = absl::Now();
      act();
      fastest = std::min(fastest, absl::Now() - begin);
    }
    RecordProperty("fastest_us",
                   static_cast<int>(absl::ToInt64Microseconds(fastest)));
    return fastest;
  }
};

// By policy, by a limit and by a memslot that is read-only.
const MemslotConfig kReasonsToWait[] = {kWaits, {}, {.read_only = true}};

TEST_P(WaitingTest, AStopTakesAMomentAndTheWriteIsNotMade) {
  for (const MemslotConfig& config : kReasonsToWait) {
    Vm* vm = nullptr;
    EXPECT_LT(Fastest([&] { vm = &Waiting(config); },
                      [&] {
                        ASSERT_OK(vm->Stop().status());
                        EXPECT_EQ(vm->Describe().state, VmState::kStopped);
                        ExpectBytes(*vm, 0, kFrames, '\0');
                      }),
              kSoon);
    EXPECT_EQ(vm->GetVcpu(0)->touched_frame_count, 0);
    EXPECT_TRUE(vm->ListWaitingAccesses().empty());
  }
}

TEST_P(WaitingTest, APauseTakesAMomentAndTheAccessWaitsOn) {
  for (const MemslotConfig& config : kReasonsToWait) {
    Vm* vm = nullptr;
    EXPECT_LT(Fastest([&] { vm = &Waiting(config); },
                      [&] {
                        ASSERT_OK(vm->Pause().status());
                        ASSERT_OK(vm->Resume().status());
                      }),
              kSoon);
    EXPECT_EQ(vm->ListWaitingAccesses().size(), 1u);
    ASSERT_OK(vm->Pause().status());
    EXPECT_EQ(vm->Describe().state, VmState::kPaused);
    ExpectBytes(*vm, 0, kFrames, '\0');
    // Stopped while paused: not made either.
    ASSERT_OK(vm->Stop().status());
    ExpectBytes(*vm, 0, kFrames, '\0');
  }
}

TEST_P(WaitingTest, AVmThatWaitsIsDeletedInAMoment) {
  std::string id;
  EXPECT_LT(Fastest([&] { id = Waiting().Describe().id; },
                    [&] {
                      const auto vm = *registry_->FindVm(id);
                      ASSERT_OK(vm->Stop().status());
                      ASSERT_OK(registry_->DeleteVm(id, ""));
                      EXPECT_EQ(ReasonOf(vm->ReadMemory(Gpa(0), 1).status()),
                                ErrorReason::kResourceNotFound);
                    }),
            kSoon);
}

TEST_P(WaitingTest, ADaemonThatEndsDoesNotWaitWithItsGuests) {
  std::unique_ptr<VmRegistry> daemon;
  EXPECT_LT(Fastest(
                [&] {
                  daemon = *VmRegistry::Create(options_);
                  const VmConfig config = {.vcpu_count = 1,
                                           .hypervisor = GetParam()};
                  ASSERT_OK(daemon->CreateVm("vm", config, false).status());
                  StartWaiting(**daemon->FindVm("vm"), kWaits);
                },
                [&] { daemon.reset(); }),
            kSoon);
}

TEST_P(WaitingTest, OtherMemslotsChangeInAMomentWhileAnAccessWaits) {
  Vm& vm = Waiting();
  const int64_t access = AwaitWaiting(vm, 0).access_id;
  EXPECT_LT(
      Fastest([] {},
              [&] {
                AddMemslot(vm, "other", 64, 16);
                for (const MemslotUpdate& update :
                     {MemslotUpdate{.base_gfn = Gfn(128)},
                      MemslotUpdate{.read_only = true},
                      MemslotUpdate{.dirty_log_enabled = true}}) {
                  ASSERT_OK(vm.UpdateMemslot("other", update, "").status());
                }
                ASSERT_OK(vm.DeleteMemslot("other", ""));
              }),
      kSoon);
  EXPECT_EQ(AwaitWaiting(vm, 0).access_id, access) << "it looked again";
  ExpectBytes(vm, 0, kFrames, '\0');
  ASSERT_OK(vm.ResolveAccess(access, Verdict::kGrant));
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(1));
  ExpectBytes(vm, 0, 1, '\x01');
}

TEST_P(WaitingTest, TheMemslotOfAnAccessMovesAwayInAMoment) {
  Vm* vm = nullptr;
  EXPECT_LT(
      Fastest(
          [&] { vm = &Waiting(); },
          [&] {
            ASSERT_OK(
                vm->UpdateMemslot("ram", {.base_gfn = Gfn(128)}, "").status());
          }),
      kSoon);
  // Where it writes now no memslot is.
  AwaitState(*vm, VmState::kStopped);
  ExpectBytes(*vm, 128 * kPageSize, kFrames, '\0');
  EXPECT_EQ(vm->Stats().fault_unbacked_count, static_cast<int64_t>(kFrames));
}

TEST_P(WaitingTest, TheMemslotOfAnAccessIsDeletedInAMoment) {
  Vm* vm = nullptr;
  EXPECT_LT(Fastest([&] { vm = &Waiting(); },
                    [&] { ASSERT_OK(vm->DeleteMemslot("ram", "")); }),
            kSoon);
  AwaitState(*vm, VmState::kStopped);
  AddMemslot(*vm, "ram", 0, kFrames);
  ExpectBytes(*vm, 0, kFrames, '\0');
}

TEST_P(WaitingTest, AnAccessThatWaitsUsesNoCpu) {
  for (const MemslotConfig& config : kReasonsToWait) {
    Vm& vm = Waiting(config);
    ExpectSleeps(VcpuThread());
    ASSERT_OK(vm.Pause().status());
    ExpectSleeps(VcpuThread());
    ASSERT_OK(vm.Stop().status());
  }
}

// Each pause finds the vCPU in the guest, in a fault, or somewhere between.
TEST_P(WaitingTest, APausedGuestUsesNoCpuWhereverThePauseMetIt) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames);
  Load(vm, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  const pid_t thread = VcpuThread();
  absl::Duration paused;
  for (int i = 0; i < 300; ++i) {
    ASSERT_OK(vm.ZapRange(WholeRange(vm), {}).status());
    ASSERT_OK(vm.Pause().status());
    if (i % 100 == 99) {
      const absl::Duration before = CpuTimeOf(thread);
      Compute();
      paused += CpuTimeOf(thread) - before;
    }
    ASSERT_OK(vm.Resume().status());
  }
  EXPECT_LT(paused, absl::Milliseconds(100));
  AwaitOnePass(vm);
  ASSERT_OK(vm.Stop().status());
  ExpectBytesOfPasses(vm, 0, WholeRange(vm));
}

// The signal that kicks a vCPU may come at any time, wanted or not.
TEST_P(WaitingTest, SignalsNeitherWakeAnAccessNorMakeItSpin) {
  if (GetParam() == HypervisorKind::kSoftware) {
    GTEST_SKIP() << "its vCPUs are not kicked by a signal";
  }
  Vm& vm = Waiting();
  const int64_t access = AwaitWaiting(vm, 0).access_id;
  const pid_t thread = VcpuThread();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(syscall(SYS_tgkill, getpid(), thread, KickSignal()), 0);
  }
  ExpectSleeps(thread);
  EXPECT_EQ(AwaitWaiting(vm, 0).access_id, access);
  ExpectBytes(vm, 0, kFrames, '\0');
  ASSERT_OK(vm.UpdateMemslot("ram", {.fault_policy = FaultPolicy::kMap}, "")
                .status());
  // The guest faults again and again, now that it runs.
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, kFrames, '\x01');
  Load(vm, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  const pid_t again = VcpuThread();
  for (int i = 0; i < 300; ++i) {
    ASSERT_OK(vm.ZapRange(WholeRange(vm), {}).status());
    ASSERT_EQ(syscall(SYS_tgkill, getpid(), again, KickSignal()), 0);
  }
  AwaitOnePass(vm);
  ASSERT_OK(vm.Stop().status());
  ExpectBytesOfPasses(vm, 0, WholeRange(vm));
}

INSTANTIATE_ON_EACH_HYPERVISOR(WaitingTest);

}  // namespace
}  // namespace tdp
