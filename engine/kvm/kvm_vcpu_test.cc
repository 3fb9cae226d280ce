#include "engine/kvm/kvm_vcpu.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "engine/kvm/boot.h"
#include "engine/kvm/fake_kvm.h"
#include "engine/kvm/kvm.h"

namespace tdp {
namespace {

using Kind = VcpuExit::Kind;

class KvmVcpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto kvm = Kvm::Open(fake_);
    ASSERT_TRUE(kvm.ok()) << kvm.status();
    auto vm = (*kvm)->CreateVm();
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *std::move(vm);
    auto vcpu = vm_->CreateVcpu(0);
    ASSERT_TRUE(vcpu.ok()) << vcpu.status();
    vcpu_ = *std::move(vcpu);
  }

  VcpuExit RunOnce(FakeExit exit) {
    fake_->PushExit(0, std::move(exit));
    return vcpu_->Run();
  }

  std::shared_ptr<FakeKvm> fake_ = std::make_shared<FakeKvm>();
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<KvmVcpu> vcpu_;
};

TEST_F(KvmVcpuTest, PlainExitsHaveTheirKindAndName) {
  const struct {
    FakeExit exit;
    Kind kind;
    std::string name;
  } cases[] = {
      {FakeHlt(), Kind::kHlt, "HLT"},
      {FakeShutdown(), Kind::kShutdown, "SHUTDOWN"},
      {FakeReason(KVM_EXIT_INTR), Kind::kInterrupted, "INTR"},
      {FakeReason(KVM_EXIT_DEBUG), Kind::kOther, "DEBUG"},
      {FakeReason(KVM_EXIT_SYSTEM_EVENT), Kind::kOther, "SYSTEM_EVENT"},
      {FakeReason(777), Kind::kOther, "EXIT_777"}};
  for (const auto& [fake_exit, kind, name] : cases) {
    const VcpuExit exit = RunOnce(fake_exit);
    EXPECT_EQ(exit.kind, kind) << name;
    EXPECT_EQ(exit.name, name);
    EXPECT_EQ(exit.error, 0);
  }
}

TEST_F(KvmVcpuTest, ErrorsOfTheGuestCarryTheirReason) {
  const VcpuExit internal = RunOnce(FakeInternalError(1));
  EXPECT_EQ(internal.kind, Kind::kInternalError);
  EXPECT_EQ(internal.name, "INTERNAL_ERROR");
  EXPECT_EQ(internal.suberror, 1u);
  const VcpuExit entry = RunOnce(FakeFailEntry(0x80000021));
  EXPECT_EQ(entry.kind, Kind::kFailEntry);
  EXPECT_EQ(entry.name, "FAIL_ENTRY");
  EXPECT_EQ(entry.hardware_reason, 0x80000021u);
}

TEST_F(KvmVcpuTest, AFailedRunHasItsErrno) {
  const struct {
    int error;
    Kind kind;
    std::string name;
  } cases[] = {{EINTR, Kind::kInterrupted, "EINTR"},
               {EAGAIN, Kind::kInterrupted, "EAGAIN"},
               {EFAULT, Kind::kFault, "EFAULT"},
               {EIO, Kind::kRunFailed, "EIO"}};
  for (const auto& [error, kind, name] : cases) {
    const VcpuExit exit = RunOnce(FakeRunError(error));
    EXPECT_EQ(exit.kind, kind) << name;
    EXPECT_EQ(exit.name, name);
    EXPECT_EQ(exit.error, error);
  }
}

TEST_F(KvmVcpuTest, AMemoryFaultNamesItsAddress) {
  const VcpuExit exit = RunOnce(FakeMemoryFault(Gpa(0x5000), 0x1000));
  EXPECT_EQ(exit.kind, Kind::kMemoryFault);
  EXPECT_EQ(exit.name, "MEMORY_FAULT");
  EXPECT_EQ(exit.error, EFAULT);
  EXPECT_EQ(exit.memory_fault.gpa, Gpa(0x5000));
  EXPECT_EQ(exit.memory_fault.size, 0x1000u);
}

TEST_F(KvmVcpuTest, AnOldReasonDoesNotShowInALaterFailure) {
  RunOnce(FakeMemoryFault(Gpa(0x5000), 0x1000));
  EXPECT_EQ(RunOnce(FakeRunError(EFAULT)).kind, Kind::kFault);
}

TEST_F(KvmVcpuTest, PortWritesShowTheirBytes) {
  const VcpuExit exit = RunOnce(FakeIoWrite(0x3f8, "hello"));
  ASSERT_EQ(exit.kind, Kind::kIo);
  EXPECT_EQ(exit.name, "IO");
  EXPECT_EQ(exit.io.port, 0x3f8);
  EXPECT_EQ(exit.io.size, 1u);
  EXPECT_EQ(exit.io.count, 5u);
  EXPECT_TRUE(exit.io.is_write);
  EXPECT_EQ(std::string(exit.io.data.begin(), exit.io.data.end()), "hello");
}

TEST_F(KvmVcpuTest, PortReadsTakeAnAnswer) {
  const VcpuExit exit = RunOnce(FakeIoRead(0x60, 2));
  ASSERT_EQ(exit.kind, Kind::kIo);
  EXPECT_FALSE(exit.io.is_write);
  vcpu_->CompleteIoRead({0x12, 0x34});
  EXPECT_EQ(exit.io.data[0], 0x12);
  EXPECT_EQ(exit.io.data[1], 0x34);
}

TEST_F(KvmVcpuTest, PortDataOutsideTheSharedPageIsNotShown) {
  const VcpuExit exit = RunOnce([](kvm_run* run) {
    run->exit_reason = KVM_EXIT_IO;
    run->io.size = 4;
    run->io.count = 2;
    run->io.data_offset = FakeKvm::kRunBytes - 4;
    return 0;
  });
  EXPECT_TRUE(exit.io.data.empty());
}

TEST_F(KvmVcpuTest, MmioWritesShowAddressAndBytes) {
  const VcpuExit exit = RunOnce(FakeMmioWrite(Gpa(0xfee00000), "abcd"));
  ASSERT_EQ(exit.kind, Kind::kMmio);
  EXPECT_EQ(exit.name, "MMIO");
  EXPECT_EQ(exit.mmio.gpa, Gpa(0xfee00000));
  EXPECT_EQ(exit.mmio.size, 4u);
  EXPECT_TRUE(exit.mmio.is_write);
  EXPECT_EQ(exit.mmio.data[3], 'd');
}

TEST_F(KvmVcpuTest, MmioReadsTakeAnAnswer) {
  const VcpuExit exit = RunOnce(FakeMmioRead(Gpa(0x1000), 2));
  ASSERT_EQ(exit.kind, Kind::kMmio);
  EXPECT_FALSE(exit.mmio.is_write);
  vcpu_->CompleteMmioRead({0xaa, 0xbb});
  uint8_t seen = 0;
  RunOnce([&seen](kvm_run* run) {
    seen = run->mmio.data[1];
    return FakeHlt()(run);
  });
  EXPECT_EQ(seen, 0xbb);
}

TEST_F(KvmVcpuTest, ImmediateExitKeepsTheVcpuOut) {
  fake_->PushExit(0, FakeHlt());
  vcpu_->set_immediate_exit(true);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kInterrupted);
  vcpu_->set_immediate_exit(false);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
}

TEST_F(KvmVcpuTest, AbandoningAGuestDoesNotEnterIt) {
  RunOnce(FakeMmioRead(Gpa(0x1000), 4));
  fake_->PushExit(0, FakeHlt());
  ASSERT_TRUE(vcpu_->AbandonGuest().ok());
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
}

TEST_F(KvmVcpuTest, AbandoningReportsADeadVcpu) {
  fake_->FailIoctl(KVM_RUN, -EIO, 5);
  EXPECT_FALSE(vcpu_->AbandonGuest().ok());
  fake_->FailIoctl(KVM_RUN, 0, 1000);
  EXPECT_FALSE(vcpu_->AbandonGuest().ok());
}

TEST_F(KvmVcpuTest, RegistersRoundTrip) {
  kvm_regs registers = {};
  registers.rip = 0x1234;
  registers.rax = 7;
  ASSERT_TRUE(vcpu_->SetRegisters(registers).ok());
  EXPECT_EQ(vcpu_->GetRegisters()->rax, 7u);
  EXPECT_EQ(*vcpu_->InstructionPointer(), 0x1234u);
}

TEST_F(KvmVcpuTest, EachFailedRegisterCallIsReported) {
  const uint64_t requests[] = {KVM_GET_SREGS, KVM_SET_SREGS,       KVM_SET_REGS,
                               KVM_SET_FPU,   KVM_SET_VCPU_EVENTS, KVM_RUN};
  for (const uint64_t request : requests) {
    fake_->FailIoctl(request, -EIO);
    EXPECT_FALSE(SetUpRealMode(*vcpu_, Gpa(0)).ok()) << request;
  }
  fake_->FailIoctl(KVM_GET_REGS, -EIO);
  EXPECT_FALSE(vcpu_->InstructionPointer().ok());
  EXPECT_TRUE(SetUpRealMode(*vcpu_, Gpa(0)).ok());
}

TEST_F(KvmVcpuTest, RealModeSplitsTheEntry) {
  ASSERT_TRUE(SetUpRealMode(*vcpu_, Gpa(0xfffff)).ok());
  EXPECT_EQ(fake_->system_registers(0).cs.base, 0xf0000u);
  EXPECT_EQ(fake_->system_registers(0).cs.selector, 0xf000);
  EXPECT_EQ(fake_->registers(0).rip, 0xffffu);
  EXPECT_EQ(fake_->registers(0).rsp, 0x8000u);
  EXPECT_EQ(fake_->system_registers(0).ds.base, 0u);
}

TEST_F(KvmVcpuTest, EntriesOutOfRangeAreRefused) {
  EXPECT_FALSE(SetUpRealMode(*vcpu_, Gpa(0x100000)).ok());
  EXPECT_FALSE(SetUpRealMode(*vcpu_, Gpa(~uint64_t{0})).ok());
  LongModeStart start;
  start.entry = uint64_t{1} << 47;
  EXPECT_FALSE(SetUpLongMode(*vcpu_, start).ok());
  start.entry -= 1;
  EXPECT_TRUE(SetUpLongMode(*vcpu_, start).ok());
}

}  // namespace
}  // namespace tdp
