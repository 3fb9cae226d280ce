#include "engine/kvm/vcpu_kicker.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "engine/kvm/kvm_guest_fixture.h"

namespace tdp {
namespace {

using Kind = VcpuExit::Kind;

class VcpuKickerTest : public KvmGuestTest {
 protected:
  void SetUp() override {
    KvmGuestTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(InstallKickSignal().ok());
    memory_ = AddMemory(Gpa(0), 64 << 10);
    // inc byte [0x2000]; jmp to it: spins, and shows that it does.
    Put(memory_ + 0x1000, {0xfe, 0x06, 0x00, 0x20, 0xeb, 0xfa});
    // jmp $
    Put(memory_ + 0x3000, {0xeb, 0xfe});
    StartRealMode(0x1000);
  }
  void WaitUntilTheGuestRuns() {
    volatile uint8_t* counter = memory_ + 0x2000;
    const uint8_t seen = *counter;
    while (*counter == seen) std::this_thread::yield();
  }

  uint8_t* memory_ = nullptr;
};

TEST_F(VcpuKickerTest, AKickEndsASpinningGuest) {
  VcpuKicker kicker(vcpu_.get());
  VcpuExit exit;
  std::thread thread([&] {
    kicker.BindThisThread();
    exit = vcpu_->Run();
    kicker.UnbindThread();
  });
  WaitUntilTheGuestRuns();
  kicker.Kick();
  thread.join();
  EXPECT_EQ(exit.kind, Kind::kInterrupted) << exit.name;
}

TEST_F(VcpuKickerTest, AKickEndsAnEndlessJump) {
  StartRealMode(0x3000);
  VcpuKicker kicker(vcpu_.get());
  VcpuExit exit;
  std::thread thread([&] {
    kicker.BindThisThread();
    exit = vcpu_->Run();
    kicker.UnbindThread();
  });
  kicker.Kick();
  thread.join();
  EXPECT_EQ(exit.kind, Kind::kInterrupted) << exit.name;
  EXPECT_EQ(Rip(), 0x3000u);
}

TEST_F(VcpuKickerTest, AKickBeforeTheEntryCounts) {
  VcpuKicker kicker(vcpu_.get());
  kicker.Kick();
  EXPECT_EQ(vcpu_->Run().kind, Kind::kInterrupted);
  EXPECT_EQ(memory_[0x2000], 0);
  kicker.BindThisThread();
  kicker.Kick();
  EXPECT_EQ(vcpu_->Run().kind, Kind::kInterrupted);
  kicker.UnbindThread();
}

TEST_F(VcpuKickerTest, ABlockedSignalIsUnblockedForTheVcpu) {
  VcpuKicker kicker(vcpu_.get());
  VcpuExit exit;
  std::thread thread([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    kicker.BindThisThread();
    exit = vcpu_->Run();
    kicker.UnbindThread();
  });
  WaitUntilTheGuestRuns();
  kicker.Kick();
  thread.join();
  EXPECT_EQ(exit.kind, Kind::kInterrupted) << exit.name;
}

TEST_F(VcpuKickerTest, TheGuestGoesOnAfterAKickAndNoReasonIsLost) {
  // Kickers race with entries: each kick of a new reason ends a Run().
  constexpr int kRounds = 300;
  VcpuKicker kicker(vcpu_.get());
  std::atomic<int> asked{0};
  std::atomic<int> answered{0};
  std::thread thread([&] {
    kicker.BindThisThread();
    while (true) {
      kicker.ClearKick();
      answered.store(asked.load());
      if (answered.load() == kRounds) break;
      const VcpuExit exit = vcpu_->Run();
      if (exit.kind != Kind::kInterrupted) {
        ADD_FAILURE() << exit.name;
        break;
      }
    }
    answered.store(kRounds);
    kicker.UnbindThread();
  });
  for (int i = 1; i <= kRounds; ++i) {
    asked.store(i);
    kicker.Kick();
    if (i % 3 == 0) {
      while (answered.load() < i) std::this_thread::yield();
    }
  }
  thread.join();
  EXPECT_EQ(answered.load(), kRounds);
}

TEST_F(VcpuKickerTest, KickingAVcpuWithoutAThreadIsHarmless) {
  VcpuKicker kicker(vcpu_.get());
  kicker.Kick();
  kicker.ClearKick();
  std::thread([&] {
    kicker.BindThisThread();
    kicker.UnbindThread();
  }).join();
  kicker.Kick();
  EXPECT_EQ(vcpu_->Run().kind, Kind::kInterrupted);
}

}  // namespace
}  // namespace tdp
