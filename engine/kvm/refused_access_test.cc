// What KVM_RUN returns when the host refuses an access to a window page: the
// page is PROT_NONE, as after an ejection. Which exit it is depends on the
// host (hardware fault or emulator); what must hold on every host is that the
// access was not made and that the guest can be made to go on as if it had
// only been slow.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <ctime>
#include <iostream>
#include <thread>

#include "engine/kvm/kvm_guest_fixture.h"
#include "engine/kvm/vcpu_kicker.h"

namespace tdp {
namespace {

using Kind = VcpuExit::Kind;

constexpr uint64_t kCode = 0x1000;
constexpr uint64_t kPage = 0x5000;

class RefusedAccessTest : public KvmGuestTest {
 protected:
  void SetUp() override {
    KvmGuestTest::SetUp();
    if (IsSkipped()) return;
    memory_ = AddMemory(Gpa(0), 2 << 20);
    InstallPrivateMemory({{Gfn(0), Gfn(512)}});
  }

  void Protect(int protection) {
    ASSERT_EQ(mprotect(memory_ + kPage, kPageSize, protection), 0);
  }

  // Runs into the refused page and says what it gave.
  VcpuExit RunRefused(int protection) {
    Protect(protection);
    const VcpuExit exit = vcpu_->Run();
    std::cout << "exit " << exit.name << ", rip " << std::hex << Rip()
              << std::dec << "\n";
    Protect(PROT_READ | PROT_WRITE);
    return exit;
  }

  // Finishes the refused access as the daemon does, and runs on.
  VcpuExit GoOn(const VcpuExit& refused) {
    if (refused.kind == Kind::kMmio) {
      uint8_t* at = memory_ + refused.mmio.gpa.value();
      if (refused.mmio.is_write) {
        memcpy(at, refused.mmio.data.data(), refused.mmio.size);
      } else {
        vcpu_->CompleteMmioRead({at, refused.mmio.size});
      }
    } else {
      EXPECT_TRUE(refused.kind == Kind::kFault ||
                  refused.kind == Kind::kMemoryFault ||
                  refused.kind == Kind::kInternalError)
          << refused.name;
    }
    return vcpu_->Run();
  }

  void CheckWrite(int protection) {
    memory_[kPage] = 1;
    const VcpuExit refused = RunRefused(protection);
    EXPECT_EQ(memory_[kPage], 1) << "the access was made";
    EXPECT_TRUE(refused.kind == Kind::kMmio || Rip() == kCode);
    const VcpuExit end = GoOn(refused);
    EXPECT_EQ(end.kind, Kind::kHlt) << end.name;
    EXPECT_EQ(memory_[kPage], 0x77);
  }

  void CheckRead() {
    memory_[kPage] = 0x31;
    const VcpuExit refused = RunRefused(PROT_NONE);
    EXPECT_TRUE(refused.kind == Kind::kMmio || Rip() == kCode);
    const VcpuExit end = GoOn(refused);
    EXPECT_EQ(end.kind, Kind::kHlt) << end.name;
    EXPECT_EQ(vcpu_->GetRegisters()->rax & 0xff, 0x31u);
  }

  void CheckFetch() {
    Put(memory_ + kPage, {0xf4});
    const VcpuExit refused = RunRefused(PROT_NONE);
    EXPECT_NE(refused.kind, Kind::kMmio);
    EXPECT_EQ(Rip(), kPage);
    const VcpuExit end = GoOn(refused);
    EXPECT_EQ(end.kind, Kind::kHlt) << end.name;
    EXPECT_EQ(Rip(), kPage + 1);
  }

  uint8_t* memory_ = nullptr;
};

TEST_F(RefusedAccessTest, LongModeWriteIsNotMadeAndCanBeFinished) {
  // mov byte [0x5000], 0x77; hlt
  Put(memory_ + kCode, {0xc6, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, 0x77, 0xf4});
  StartLongMode(kCode, 0);
  CheckWrite(PROT_NONE);
}

TEST_F(RefusedAccessTest, LongModeWriteToAReadablePageIsNotMade) {
  Put(memory_ + kCode, {0xc6, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, 0x77, 0xf4});
  StartLongMode(kCode, 0);
  CheckWrite(PROT_READ);
}

TEST_F(RefusedAccessTest, LongModeReadGetsTheBytesThatAreThere) {
  // mov al, [0x5000]; hlt
  Put(memory_ + kCode, {0x8a, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, 0xf4});
  StartLongMode(kCode, 0);
  CheckRead();
}

TEST_F(RefusedAccessTest, LongModeFetchStartsAgain) {
  StartLongMode(kPage, 0);
  CheckFetch();
}

TEST_F(RefusedAccessTest, RealModeWriteIsNotMadeAndCanBeFinished) {
  // mov byte [0x5000], 0x77; hlt
  Put(memory_ + kCode, {0xc6, 0x06, 0x00, 0x50, 0x77, 0xf4});
  StartRealMode(kCode);
  CheckWrite(PROT_NONE);
}

TEST_F(RefusedAccessTest, RealModeWriteToAReadablePageIsNotMade) {
  Put(memory_ + kCode, {0xc6, 0x06, 0x00, 0x50, 0x77, 0xf4});
  StartRealMode(kCode);
  CheckWrite(PROT_READ);
}

TEST_F(RefusedAccessTest, RealModeReadGetsTheBytesThatAreThere) {
  // mov al, [0x5000]; hlt
  Put(memory_ + kCode, {0xa0, 0x00, 0x50, 0xf4});
  StartRealMode(kCode);
  CheckRead();
}

TEST_F(RefusedAccessTest, RealModeFetchStartsAgain) {
  StartRealMode(kPage);
  CheckFetch();
}

TEST_F(RefusedAccessTest, AnAbandonedUpdateIsNotFinishedAtTheNextStart) {
  memory_[kPage] = 0x31;
  Put(memory_ + 0x2000, {0xf4});
  // inc byte [0x5000]
  Put(memory_ + kCode, {0xfe, 0x06, 0x00, 0x50});
  StartRealMode(kCode);
  RunRefused(PROT_NONE);
  StartRealMode(0x2000);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(memory_[kPage], 0x31);
  // inc byte [0x5000]
  Put(memory_ + kCode, {0xfe, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00});
  StartLongMode(kCode, 0);
  RunRefused(PROT_NONE);
  StartLongMode(0x2000, 0);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(memory_[kPage], 0x31);
}

TEST_F(RefusedAccessTest, AnAbandonedCopyFromADeviceIsNotFinished) {
  InstallPrivateMemory({{Gfn(0), Gfn(1024)}});
  memory_[kPage] = 0x31;
  Put(memory_ + 0x2000, {0xf4});
  // mov esi, 0x300000; mov edi, 0x5000; movsb
  Put(memory_ + kCode, {0xbe, 0x00, 0x00, 0x30, 0x00,  //
                        0xbf, 0x00, 0x50, 0x00, 0x00, 0xa4});
  StartLongMode(kCode, 0);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kMmio);
  StartLongMode(0x2000, 0);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(memory_[kPage], 0x31);
}

// CPU time that a running thread has used. The thread waits for join().
int64_t CpuTimeMs(std::thread& thread) {
  clockid_t clock;
  timespec time = {};
  if (pthread_getcpuclockid(thread.native_handle(), &clock) == 0) {
    clock_gettime(clock, &time);
  }
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

TEST_F(RefusedAccessTest, AnInterruptVectorThatIsRefusedNeedsAKick) {
  // KVM may try such an instruction again and again within KVM_RUN. A kick
  // ends that; afterwards the instruction starts again.
  ASSERT_TRUE(InstallKickSignal().ok());
  Put(memory_ + kCode, {0xcd, 0x10});                 // int 0x10
  Put(memory_ + 4 * 0x10, {0x00, 0x20, 0x00, 0x00});  // vector 0:0x2000
  Put(memory_ + 0x2000, {0xf4});                      // hlt
  StartRealMode(kCode);
  ASSERT_EQ(mprotect(memory_, kPageSize, PROT_NONE), 0);
  VcpuKicker kicker(vcpu_.get());
  VcpuExit exit;
  std::atomic<bool> done{false};
  std::thread thread([&] {
    kicker.BindThisThread();
    exit = vcpu_->Run();
    kicker.UnbindThread();
    done = true;
  });
  while (!done && CpuTimeMs(thread) < 5) std::this_thread::yield();
  kicker.Kick();
  thread.join();
  kicker.ClearKick();
  ASSERT_EQ(mprotect(memory_, kPageSize, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(Rip(), kCode) << exit.name;
  const VcpuExit end = vcpu_->Run();
  EXPECT_EQ(end.kind, Kind::kHlt) << end.name;
  EXPECT_EQ(Rip(), 0x2001u);
}

}  // namespace
}  // namespace tdp
