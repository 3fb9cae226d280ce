// What real guests do on the host's KVM: each exit, and how it goes on.

#include <gtest/gtest.h>

#include <string>

#include "engine/kvm/kvm_guest_fixture.h"

namespace tdp {
namespace {

using Kind = VcpuExit::Kind;

// Where code is put and entered.
constexpr uint64_t kCode = 0x1000;

class GuestTest : public KvmGuestTest {
 protected:
  // 16-bit code on 64 KiB of memory.
  uint8_t* StartRealModeCode(std::initializer_list<int> code) {
    uint8_t* memory = AddMemory(Gpa(0), 64 << 10);
    Put(memory + kCode, code);
    StartRealMode(kCode);
    return memory;
  }
  // 64-bit code on 2 MiB of memory; 4 MiB are mapped.
  uint8_t* StartLongModeCode(std::initializer_list<int> code) {
    uint8_t* memory = AddMemory(Gpa(0), 2 << 20);
    Put(memory + kCode, code);
    InstallPrivateMemory({{Gfn(0), Gfn(1024)}});
    StartLongMode(kCode, 0);
    return memory;
  }
  uint64_t Rax() const { return vcpu_->GetRegisters()->rax; }
};

TEST_F(GuestTest, RealModeWritesOneByteToEachOf224Frames) {
  uint8_t* memory = AddMemory(Gpa(0), 1 << 20);
  Put(memory + kCode, {
                          0xbb, 0x00, 0x10,              // mov bx, 0x1000
                          0xb9, 0xe0, 0x00,              // mov cx, 224
                          0x8e, 0xdb,                    // next: mov ds, bx
                          0xc6, 0x06, 0x00, 0x00, 0x5a,  // mov byte [0], 0x5a
                          0x81, 0xc3, 0x00, 0x01,        // add bx, 0x100
                          0xe2, 0xf3,                    // loop next
                          0xf4,                          // hlt
                      });
  StartRealMode(kCode);
  const VcpuExit exit = vcpu_->Run();
  EXPECT_EQ(exit.kind, Kind::kHlt) << exit.name;
  for (uint64_t frame = 0; frame < 256; ++frame) {
    if (GpaOf(Gfn(frame)) == Gpa(kCode)) continue;
    const bool written = frame >= 16 && frame < 16 + 224;
    EXPECT_EQ(memory[frame * kPageSize], written ? 0x5a : 0) << frame;
  }
  EXPECT_EQ(Rip(), kCode + 20);
}

TEST_F(GuestTest, RealModeCodeMayLieInAnySegmentBelowOneMegabyte) {
  uint8_t* memory = AddMemory(Gpa(0), 1 << 20);
  // mov byte [0x2000], 7; hlt: code in segment 0xf000, data in segment 0.
  Put(memory + 0xff000, {0xc6, 0x06, 0x00, 0x20, 0x07, 0xf4});
  StartRealMode(0xff000);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(memory[0x2000], 7);
}

TEST_F(GuestTest, RealModeHasAStackBelow0x8000) {
  // push 0x1234; hlt
  uint8_t* memory = StartRealModeCode({0x68, 0x34, 0x12, 0xf4});
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(memory[0x7ffe], 0x34);
  EXPECT_EQ(memory[0x7fff], 0x12);
}

TEST_F(GuestTest, LongModeReachesMemoryOneToOne) {
  // mov rax, 0x1122334455667788; mov [0x1ff000], rax; hlt
  uint8_t* memory = StartLongModeCode(
      {0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,  //
       0x48, 0x89, 0x04, 0x25, 0x00, 0xf0, 0x1f, 0x00, 0xf4});
  const VcpuExit exit = vcpu_->Run();
  EXPECT_EQ(exit.kind, Kind::kHlt) << exit.name;
  EXPECT_EQ(memory[0x1ff000], 0x88);
  EXPECT_EQ(memory[0x1ff007], 0x11);
}

TEST_F(GuestTest, LongModeHasAStackAndItsArgumentAndSse) {
  uint8_t* memory = AddMemory(Gpa(0), 2 << 20);
  // push rdi; pop rax; mov [0x3000], rax; movups xmm0, [0x3000];
  // movups [0x3010], xmm0; hlt. KVM's emulator knows little more of SSE.
  Put(memory + kCode, {0x57, 0x58,                                      //
                       0x48, 0x89, 0x04, 0x25, 0x00, 0x30, 0x00, 0x00,  //
                       0x0f, 0x10, 0x04, 0x25, 0x00, 0x30, 0x00, 0x00,  //
                       0x0f, 0x11, 0x04, 0x25, 0x10, 0x30, 0x00, 0x00,  //
                       0xf4});
  InstallPrivateMemory({{Gfn(0), Gfn(512)}});
  StartLongMode(kCode, 0x42);
  const VcpuExit exit = vcpu_->Run();
  EXPECT_EQ(exit.kind, Kind::kHlt) << exit.name;
  EXPECT_EQ(memory[0x3010], 0x42);
}

TEST_F(GuestTest, HaltedGuestsGoOnBehindTheHlt) {
  StartRealModeCode({0xf4, 0x40, 0xf4});  // hlt; inc ax; hlt
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(Rip(), kCode + 1);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(Rax(), 1u);
}

TEST_F(GuestTest, TheConsolePortShowsEachByte) {
  // mov dx, 0x3f8; mov al, 'h'; out dx, al; mov al, 'i'; out dx, al; hlt
  StartRealModeCode({0xba, 0xf8, 0x03, 0xb0, 'h', 0xee, 0xb0, 'i', 0xee, 0xf4});
  std::string console;
  VcpuExit exit = vcpu_->Run();
  for (; exit.kind == Kind::kIo; exit = vcpu_->Run()) {
    EXPECT_EQ(exit.io.port, 0x3f8);
    EXPECT_EQ(exit.io.size, 1u);
    EXPECT_TRUE(exit.io.is_write);
    console.append(exit.io.data.begin(), exit.io.data.end());
  }
  EXPECT_EQ(exit.kind, Kind::kHlt) << exit.name;
  EXPECT_EQ(console, "hi");
}

TEST_F(GuestTest, StringOutputShowsAllItsBytes) {
  // mov dx, 0x3f8; mov si, 0x2000; mov cx, 5; rep outsb; hlt
  uint8_t* memory = StartRealModeCode(
      {0xba, 0xf8, 0x03, 0xbe, 0x00, 0x20, 0xb9, 0x05, 0x00, 0xf3, 0x6e, 0xf4});
  memcpy(memory + 0x2000, "hello", 5);
  std::string console;
  VcpuExit exit = vcpu_->Run();
  for (; exit.kind == Kind::kIo; exit = vcpu_->Run()) {
    console.append(exit.io.data.begin(), exit.io.data.end());
  }
  EXPECT_EQ(exit.kind, Kind::kHlt) << exit.name;
  EXPECT_EQ(console, "hello");
}

TEST_F(GuestTest, PortReadsGetTheirAnswer) {
  StartRealModeCode({0xe4, 0x60, 0xf4});  // in al, 0x60; hlt
  const VcpuExit exit = vcpu_->Run();
  ASSERT_EQ(exit.kind, Kind::kIo) << exit.name;
  EXPECT_EQ(exit.io.port, 0x60);
  EXPECT_FALSE(exit.io.is_write);
  vcpu_->CompleteIoRead({0x5c});
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(Rax() & 0xff, 0x5cu);
}

TEST_F(GuestTest, UnbackedWritesAreMmio) {
  // mov byte [0x300000], 0x77; hlt
  StartLongModeCode({0xc6, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0x77, 0xf4});
  const VcpuExit exit = vcpu_->Run();
  ASSERT_EQ(exit.kind, Kind::kMmio) << exit.name;
  EXPECT_EQ(exit.mmio.gpa, Gpa(0x300000));
  EXPECT_EQ(exit.mmio.size, 1u);
  EXPECT_TRUE(exit.mmio.is_write);
  EXPECT_EQ(exit.mmio.data[0], 0x77);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
}

TEST_F(GuestTest, UnbackedReadsGetTheirAnswer) {
  // mov eax, [0x300000]; hlt
  StartLongModeCode({0x8b, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0xf4});
  const VcpuExit exit = vcpu_->Run();
  ASSERT_EQ(exit.kind, Kind::kMmio) << exit.name;
  EXPECT_EQ(exit.mmio.size, 4u);
  EXPECT_FALSE(exit.mmio.is_write);
  vcpu_->CompleteMmioRead({0x01, 0x02, 0x03, 0x04});
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(Rax(), 0x04030201u);
}

TEST_F(GuestTest, AnAccessAcrossTheEndOfAMemslotLeavesOnlyTheRest) {
  // mov eax, [0x1ffffe]; hlt: two bytes of memory, two of nothing.
  uint8_t* memory =
      StartLongModeCode({0x8b, 0x04, 0x25, 0xfe, 0xff, 0x1f, 0x00, 0xf4});
  memory[0x1ffffe] = 0x11;
  memory[0x1fffff] = 0x22;
  const VcpuExit exit = vcpu_->Run();
  ASSERT_EQ(exit.kind, Kind::kMmio) << exit.name;
  EXPECT_EQ(exit.mmio.gpa, Gpa(0x200000));
  EXPECT_EQ(exit.mmio.size, 2u);
  vcpu_->CompleteMmioRead({0x33, 0x44});
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(Rax(), 0x44332211u);
}

TEST_F(GuestTest, AnAddressThatIsNotMappedShutsTheGuestDown) {
  // mov al, [0x40000000]; hlt
  StartLongModeCode({0x8a, 0x04, 0x25, 0x00, 0x00, 0x00, 0x40, 0xf4});
  const VcpuExit exit = vcpu_->Run();
  EXPECT_EQ(exit.kind, Kind::kShutdown) << exit.name;
  EXPECT_EQ(exit.name, "SHUTDOWN");
}

TEST_F(GuestTest, AnExceptionWithoutIdtShutsTheGuestDown) {
  StartLongModeCode({0x0f, 0x0b});  // ud2
  EXPECT_EQ(vcpu_->Run().kind, Kind::kShutdown);
}

TEST_F(GuestTest, AFetchFromNowhereIsAnInternalError) {
  // jmp 0x9000:0, where no memslot is.
  StartRealModeCode({0xea, 0x00, 0x00, 0x00, 0x90});
  const VcpuExit exit = vcpu_->Run();
  EXPECT_EQ(exit.kind, Kind::kInternalError) << exit.name;
  EXPECT_EQ(exit.name, "INTERNAL_ERROR");
}

TEST_F(GuestTest, AVcpuStartsAgainAfterEveryKindOfEnd) {
  uint8_t* memory = AddMemory(Gpa(0), 512 << 10);
  InstallPrivateMemory({{Gfn(0), Gfn(1024)}});
  Put(memory + 0x1000, {0x0f, 0x0b});  // ud2
  // mov eax, [0x300000]
  Put(memory + 0x2000, {0x8b, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00});
  Put(memory + 0x3000, {0xe4, 0x60});                    // in al, 0x60
  Put(memory + 0x4000, {0xea, 0x00, 0x00, 0x00, 0x90});  // jmp 0x9000:0
  Put(memory + 0x5000, {0xf4});                          // hlt
  const uint64_t ends[] = {0x1000, 0x2000, 0x3000, 0x5000};
  for (const uint64_t end : ends) {
    StartLongMode(end, 0);
    vcpu_->Run();
    StartLongMode(0x5000, 9);
    const VcpuExit exit = vcpu_->Run();
    EXPECT_EQ(exit.kind, Kind::kHlt) << exit.name << " after " << end;
    EXPECT_EQ(Rip(), 0x5001u);
    EXPECT_EQ(Rax(), 0u) << "an old read was completed after " << end;
    StartRealMode(0x4000);
    vcpu_->Run();
    StartRealMode(0x5000);
    EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  }
}

TEST_F(GuestTest, TwoVcpusShareMemoryAndHaveOwnRegisters) {
  uint8_t* memory = AddMemory(Gpa(0), 2 << 20);
  // mov [rdi], dil; hlt
  Put(memory + kCode, {0x40, 0x88, 0x3f, 0xf4});
  InstallPrivateMemory({{Gfn(0), Gfn(512)}});
  auto second = vm_->CreateVcpu(1);
  ASSERT_TRUE(second.ok()) << second.status();
  StartLongMode(kCode, 0x5011);
  ASSERT_TRUE(
      SetUpLongMode(**second, {.page_table_root = private_->page_table_root(),
                               .gdt = private_->gdt(),
                               .entry = kCode,
                               .argument = 0x6022,
                               .stack = private_->stack_top(1).value()})
          .ok());
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ((*second)->Run().kind, Kind::kHlt);
  EXPECT_EQ(memory[0x5011], 0x11);
  EXPECT_EQ(memory[0x6022], 0x22);
}

}  // namespace
}  // namespace tdp
