// A VM as its users see it: real memslots, real page tables, a real guest.

#include "engine/vm/vm.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/vm_registry.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

// Writes `value` to one byte of each of `frames` frames from 0x10000 on, then
// halts: DS goes up by a frame at a time.
std::string WriteFramesCode(int frames) {
  std::string code = {'\xb8', '\x00',
                      '\x10',  // mov ax, 0x1000
                      '\xb9', static_cast<char>(frames),
                      '\x00',          // mov cx, frames
                      '\x8e', '\xd8',  // l: mov ds, ax
                      '\xc6', '\x06',
                      '\x00', '\x00',
                      '\x42',  // mov byte [0], 0x42
                      '\x05', '\x00',
                      '\x01',          // add ax, 0x100
                      '\xe2', '\xf4',  // loop l
                      '\xf4'};         // hlt
  return code;
}

class KvmVmTest : public VmTest {
 protected:
  void SetUp() override {
    VmTest::SetUp();
    if (!HasKvm()) GTEST_SKIP() << "KVM does not work here";
  }
};

TEST_F(KvmVmTest, RealModeGuestFaultsOnceForEachFrameItTouches) {
  constexpr int kFrames = 224;
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, (64 << 20) / kPageSize);
  ASSERT_OK(vm.LoadGuest(0, CodeGuestConfig{WriteFramesCode(kFrames),
                                            Gpa(0x1000), CodeMode::kReal}));

  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().fault_fixed_count, kFrames + 1);
  ExpectBytes(vm, 0x10000, kFrames, '\x42');
  ExpectCleanAudit(vm, WholeRange(vm));

  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().fault_fixed_count, kFrames + 1);

  const auto zapped = vm.ZapRange({Gfn(0x10), Gfn(0x20)}, {});
  ASSERT_OK(zapped.status());
  EXPECT_EQ(zapped->changed, 16);
  ExpectCleanAudit(vm, WholeRange(vm));
  ExpectBytes(vm, 0x10000, kFrames, '\x42');

  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().fault_fixed_count, kFrames + 1 + 16);
  ExpectBytes(vm, 0x10000, kFrames, '\x42');
  ExpectCleanAudit(vm, WholeRange(vm));
  const VcpuInfo vcpu = *vm.GetVcpu(0);
  EXPECT_EQ(vcpu.state, VcpuState::kExited);
  EXPECT_EQ(vcpu.exit_reason, "HLT");
}

TEST_F(KvmVmTest, ConsoleBytesAreKept) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, 256);
  // mov dx, 0x3f8; mov al, 'h'; out dx, al; mov al, 'i'; out dx, al; hlt
  ASSERT_OK(vm.LoadGuest(
      0, CodeGuestConfig{std::string("\xba\xf8\x03\xb0h\xee\xb0i\xee\xf4", 10),
                         Gpa(0x1000), CodeMode::kReal}));
  RunToEnd(vm);
  EXPECT_EQ(vm.GetVcpu(0)->console, "hi");
}

TEST_F(KvmVmTest, UnbackedAccessReadsOnesAndIsAnEvent) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, 16);
  // mov ax, 0x2000; mov ds, ax; mov byte [0], 1; mov al, [0]; mov dx, 0x3f8;
  // out dx, al; hlt
  ASSERT_OK(vm.LoadGuest(
      0, CodeGuestConfig{std::string("\xb8\x00\x20\x8e\xd8\xc6\x06\x00\x00\x01"
                                     "\xa0\x00\x00\xba\xf8\x03\xee\xf4",
                                     18),
                         Gpa(0x1000), CodeMode::kReal}));
  RunToEnd(vm);
  EXPECT_EQ(vm.GetVcpu(0)->console, "\xff");
  int reads = 0;
  int writes = 0;
  const EventBatch batch = *vm.ReadEvents(1, 100);
  for (const Event& event : batch.events) {
    const auto* unbacked = std::get_if<UnbackedAccessEvent>(&event.detail);
    if (unbacked == nullptr) continue;
    EXPECT_EQ(unbacked->gfn, Gfn(0x20));
    ++(unbacked->access.write ? writes : reads);
  }
  EXPECT_EQ(reads, 1);
  EXPECT_EQ(writes, 1);
  EXPECT_EQ(vm.Stats().fault_unbacked_count, 2);
}

TEST_F(KvmVmTest, TripleFaultIsAnExit) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, 16);
  // 64-bit code without an IDT: ud2.
  ASSERT_OK(vm.LoadGuest(
      0, CodeGuestConfig{"\x0f\x0b", Gpa(0x1000), CodeMode::kLong}));
  RunToEnd(vm);
  EXPECT_EQ(vm.GetVcpu(0)->exit_reason, "SHUTDOWN");
}

// A static ELF64 executable with one segment: `code` at `gpa`, entered there.
std::string MakeElf(uint64_t gpa, const std::string& code, uint64_t memory) {
  Elf64_Ehdr header = {};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_entry = gpa;
  header.e_phoff = sizeof(Elf64_Ehdr);
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr segment = {};
  segment.p_type = PT_LOAD;
  segment.p_flags = PF_R | PF_W | PF_X;
  segment.p_offset = kPageSize;
  segment.p_vaddr = gpa;
  segment.p_paddr = gpa;
  segment.p_filesz = code.size();
  segment.p_memsz = memory;
  segment.p_align = kPageSize;
  std::string file(kPageSize, '\0');
  memcpy(file.data(), &header, sizeof(header));
  memcpy(file.data() + sizeof(header), &segment, sizeof(segment));
  return file + code;
}

// In 64-bit mode: writes the vCPU's index plus '0' to the console, halts.
constexpr char kPrintIndex[] =
    "\x89\xf8"          // mov eax, edi
    "\x04\x30"          // add al, '0'
    "\x66\xba\xf8\x03"  // mov dx, 0x3f8
    "\xee\xf4";         // out dx, al; hlt

TEST_F(KvmVmTest, LongModeCodeRunsOnEveryVcpuWithItsIndex) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 2);
  AddMemslot(vm, "ram", 0x100, 16);
  ASSERT_OK(vm.LoadGuest(
      -1, CodeGuestConfig{kPrintIndex, Gpa(0x100000), CodeMode::kLong}));
  RunToEnd(vm);
  EXPECT_EQ(vm.GetVcpu(0)->console, "0");
  EXPECT_EQ(vm.GetVcpu(1)->console, "1");
}

// Accesses that KVM's emulator cannot take back or make half: each waits for a
// client and is made exactly once.
TEST_F(KvmVmTest, EveryKindOfAccessThatWaitsIsMadeOnce) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "code", 0, 16);
  AddMemslot(vm, "data", 16, 16, {.fault_policy = FaultPolicy::kWait});
  // mov ax, 0x1000; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x2002
  // inc byte [0]; lock inc byte [0x1000]; push 0x55aa; mov di, 0x3000;
  // mov cx, 4; mov al, 7; rep stosb; mov al, [0x4000]; add al, 5;
  // mov [0x5000], al; hlt
  const std::string code(
      "\xb8\x00\x10\x8e\xd8\x8e\xc0\x8e\xd0\xbc\x02\x20"
      "\xfe\x06\x00\x00\xf0\xfe\x06\x00\x10\x68\xaa\x55\xbf\x00\x30"
      "\xb9\x04\x00\xb0\x07\xf3\xaa\xa0\x00\x40\x04\x05"
      "\xa2\x00\x50\xf4",
      43);
  ASSERT_OK(
      vm.LoadGuest(0, CodeGuestConfig{code, Gpa(0x1000), CodeMode::kReal}));
  ASSERT_OK(vm.WriteMemory(Gpa(0x14000), "\x20"));
  ASSERT_OK(vm.Start().status());
  for (uint64_t frame = 16; frame < 22; ++frame) {
    EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(frame));
    ASSERT_OK(vm.MapRange({Gfn(frame), Gfn(frame + 1)}, 0, true, {}).status());
  }
  AwaitState(vm, VmState::kStopped);
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x10000), 1), "\x01");
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x11000), 1), "\x01");
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x12000), 2), "\xaa\x55");
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x13000), 5), std::string("\7\7\7\7\0", 5));
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x15000), 1), "\x25");
  EXPECT_EQ(vm.GetVcpu(0)->exit_reason, "HLT");
}

TEST_F(KvmVmTest, FetchThatWaitsGoesOnWhenTheCodeIsMapped) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, 16, {.fault_policy = FaultPolicy::kWait});
  ASSERT_OK(
      vm.LoadGuest(0, CodeGuestConfig{"\xf4", Gpa(0x1000), CodeMode::kReal}));
  ASSERT_OK(vm.Start().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(1));
  EXPECT_FALSE(AwaitWaiting(vm, 0).access.write);
  ASSERT_OK(vm.MapRange({Gfn(1), Gfn(2)}, 0, false, {}).status());
  AwaitState(vm, VmState::kStopped);
  EXPECT_EQ(vm.GetVcpu(0)->exit_reason, "HLT");
}

TEST_F(KvmVmTest, VectorTableThatIsNotMappedWaitsWithoutSpinning) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "vectors", 0, 1, {.fault_policy = FaultPolicy::kWait});
  AddMemslot(vm, "ram", 1, 15);
  // int 3 with the vector table in a frame that waits.
  ASSERT_OK(
      vm.LoadGuest(0, CodeGuestConfig{"\xcc", Gpa(0x1000), CodeMode::kReal}));
  ASSERT_OK(vm.WriteMemory(Gpa(12), std::string("\x00\x20\x00\x00", 4)));
  ASSERT_OK(vm.WriteMemory(Gpa(0x2000), "\xf4"));
  ASSERT_OK(vm.Start().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(0));
  ASSERT_OK(vm.Pause().status());
  ASSERT_OK(vm.Resume().status());
  MapAll(vm, {Gfn(0), Gfn(1)}, true);
  AwaitState(vm, VmState::kStopped);
  EXPECT_EQ(vm.GetVcpu(0)->exit_reason, "HLT");
  EXPECT_EQ(vm.GetVcpu(0)->instruction_pointer, 0x2001u);
}

class KvmElfTest : public KvmVmTest {
 protected:
  void SetUp() override {
    char path[] = "/tmp/tdpd-elf-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    options_.image_dir = path;
    KvmVmTest::SetUp();
  }
  void TearDown() override { std::filesystem::remove_all(options_.image_dir); }
};

TEST_F(KvmElfTest, ElfGuestIsLoadedZeroFilledAndEntered) {
  std::ofstream(options_.image_dir + "/guest.elf", std::ios::binary)
      << MakeElf(0x101000, kPrintIndex, 2 * kPageSize);
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0x100, 16);
  ASSERT_OK(vm.WriteMemory(Gpa(0x101000), std::string(2 * kPageSize, 'x')));
  ASSERT_OK(vm.LoadGuest(0, ElfGuestConfig{"guest.elf"}));
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x102fff), 2), std::string(1, '\0') + '\0');
  RunToEnd(vm);
  EXPECT_EQ(vm.GetVcpu(0)->console, "0");
}

TEST_F(KvmElfTest, ElfGuestThatDoesNotFitChangesNothing) {
  std::ofstream(options_.image_dir + "/guest.elf", std::ios::binary)
      << MakeElf(0x10f000, kPrintIndex, 2 * kPageSize);
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0x100, 16);
  EXPECT_EQ(DetailOf(vm.LoadGuest(0, ElfGuestConfig{"guest.elf"}))->reason,
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x10f000), 1), std::string(1, '\0'));
}

TEST_F(KvmVmTest, GuestWithoutMemoryFailsTheVmAndStopsTheOthers) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 2);
  AddMemslot(vm, "ram", 0, 16);
  // vCPU 1 jumps to itself for ever; vCPU 0 jumps where no memory is.
  ASSERT_OK(vm.LoadGuest(
      1, CodeGuestConfig{"\xeb\xfe", Gpa(0x1000), CodeMode::kReal}));
  ASSERT_OK(
      vm.LoadGuest(0, CodeGuestConfig{std::string("\xea\x00\x00\x00\x40", 5),
                                      Gpa(0x2000), CodeMode::kReal}));
  ASSERT_OK(vm.Start().status());
  AwaitState(vm, VmState::kFailed);
  EXPECT_EQ(DetailOf(vm.Start().status())->reason,
            ErrorReason::kVmStateConflict);
  EXPECT_EQ(
      DetailOf(vm.MapRange({Gfn(0), Gfn(1)}, 0, true, {}).status())->reason,
      ErrorReason::kVmStateConflict);
  EXPECT_OK(vm.WalkGfn(Gfn(0)).status());
  ExpectCleanAudit(vm, WholeRange(vm));
  ASSERT_OK(registry_->DeleteVm("vm0", ""));
}

TEST_F(KvmVmTest, WaitVcpuAnswersAtTheExitAtTheDeadlineOrWhenItIsEnded) {
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, 16);
  ASSERT_OK(vm.LoadGuest(
      0, CodeGuestConfig{"\xeb\xfe", Gpa(0x1000), CodeMode::kReal}));
  ASSERT_OK(vm.Start().status());
  std::promise<VcpuInfo> at_deadline;
  ASSERT_OK(
      vm.WaitVcpu(0, absl::Now() + absl::Milliseconds(20), [&](VcpuInfo info) {
          at_deadline.set_value(info);
        }).status());
  EXPECT_EQ(at_deadline.get_future().get().state, VcpuState::kRunning);
  std::promise<VcpuInfo> at_end;
  const auto wait = vm.WaitVcpu(0, absl::InfiniteFuture(),
                                [&](VcpuInfo info) { at_end.set_value(info); });
  ASSERT_OK(wait.status());
  vm.EndWait(*wait);
  EXPECT_EQ(at_end.get_future().get().state, VcpuState::kRunning);
  std::promise<VcpuInfo> at_exit;
  ASSERT_OK(vm.WaitVcpu(0, absl::InfiniteFuture(), [&](VcpuInfo info) {
                at_exit.set_value(info);
              }).status());
  vm.EndWait(*wait);  // over; nothing happens
  ASSERT_OK(vm.Stop().status());
  EXPECT_EQ(at_exit.get_future().get().state, VcpuState::kExited);
}

// Each hypervisor runs the touch guest.
class TouchTest : public VmTest,
                  public testing::WithParamInterface<HypervisorKind> {
 protected:
  void SetUp() override {
    VmTest::SetUp();
    if (GetParam() == HypervisorKind::kKvm && !HasKvm()) {
      GTEST_SKIP() << "KVM does not work here";
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Hypervisors, TouchTest,
                         testing::Values(HypervisorKind::kKvm,
                                         HypervisorKind::kSoftware),
                         [](const auto& info) {
                           return info.param == HypervisorKind::kKvm
                                      ? "Kvm"
                                      : "Software";
                         });

TEST_P(TouchTest, MappedMemoryDoesNotFault) {
  constexpr uint64_t kFrames = (128 << 20) / kPageSize;
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames);
  MapAll(vm, WholeRange(vm), /*write=*/true);
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)}, .write = true}));
  RunToEnd(vm);
  const VmStats stats = vm.Stats();
  EXPECT_EQ(stats.fault_fixed_count, 0);
  EXPECT_EQ(stats.fault_spurious_count, 0);
  EXPECT_EQ(stats.fault_write_protected_count, 0);
  EXPECT_EQ(vm.GetVcpu(0)->touched_frame_count, kFrames);
  ExpectBytes(vm, 0, kFrames, '\x01');
}

TEST_P(TouchTest, UnmappedMemoryFaultsOnceForEachFrame) {
  constexpr uint64_t kFrames = (128 << 20) / kPageSize;
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames);
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)}, .write = true}));
  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().fault_fixed_count, kFrames);
  EXPECT_EQ(vm.Stats().leaf_4k_count, kFrames);
  ExpectBytes(vm, 0, kFrames, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(TouchTest, MapWithoutWriteLeavesWritingToTheFirstWrite) {
  constexpr uint64_t kFrames = 64;
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames);
  MapAll(vm, WholeRange(vm), /*write=*/false);
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)}, .write = true}));
  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().fault_write_protected_count, kFrames);
  EXPECT_EQ(vm.Stats().fault_fixed_count, 0);
  ExpectBytes(vm, 0, kFrames, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(TouchTest, PauseResumeAndStopWorkAtAnyMoment) {
  constexpr uint64_t kFrames = 4096;
  Vm& vm = CreateVm(GetParam(), 2);
  AddMemslot(vm, "ram", 0, kFrames);
  ASSERT_OK(vm.LoadGuest(-1, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)},
                                              .pattern = TouchPattern::kUniform,
                                              .write = true,
                                              .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK(vm.ZapRange(WholeRange(vm), {}).status());
    ASSERT_OK(vm.Pause().status());
    const int64_t before = vm.GetVcpu(0)->touched_frame_count;
    EXPECT_EQ(vm.GetVcpu(0)->state, VcpuState::kPaused);
    absl::SleepFor(absl::Milliseconds(1));
    EXPECT_EQ(vm.GetVcpu(0)->touched_frame_count, before);
    ASSERT_OK(vm.Resume().status());
  }
  ASSERT_OK(vm.Stop().status());
  EXPECT_EQ(vm.Describe().state, VmState::kStopped);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(TouchTest, WaitPolicyKeepsTheVcpuOutsideUntilTheFrameIsMapped) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64, {.fault_policy = FaultPolicy::kWait});
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(0), Gfn(4)}, .write = true}));
  ASSERT_OK(vm.Start().status());
  for (uint64_t gfn = 0; gfn < 4; ++gfn) {
    const WaitingAccess waiting = AwaitWaiting(vm, 0);
    EXPECT_EQ(waiting.gfn, Gfn(gfn));
    EXPECT_TRUE(waiting.access.write);
    EXPECT_EQ(waiting.cause, WaitCause::kFaultPolicy);
    ExpectBytes(vm, gfn * kPageSize, 1, '\0');
    ASSERT_OK(vm.MapRange({Gfn(gfn), Gfn(gfn + 1)}, 0, true, {}).status());
  }
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, 4, '\x01');
}

TEST_P(TouchTest, StopLeavesAWaitingWriteUndone) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64, {.read_only = true});
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(7), Gfn(8)}, .write = true}));
  ASSERT_OK(vm.Start().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).cause, WaitCause::kProtection);
  // While it waits: pause, memslot changes, resume.
  ASSERT_OK(vm.Pause().status());
  AddMemslot(vm, "more", 1 << 20, 64);
  ASSERT_OK(vm.Resume().status());
  ASSERT_OK(vm.DeleteMemslot("more", ""));
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(7));
  ASSERT_OK(vm.Stop().status());
  ExpectBytes(vm, 7 * kPageSize, 1, '\0');
  EXPECT_EQ(vm.Stats().waiting_access_count, 0);
}

TEST_P(TouchTest, WritableAgainLetsAWaitingWriteGoOn) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64, {.read_only = true});
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(7), Gfn(9)}, .write = true}));
  ASSERT_OK(vm.Start().status());
  AwaitWaiting(vm, 0);
  ASSERT_OK(vm.UpdateMemslot("ram", {.read_only = false}, "").status());
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 7 * kPageSize, 2, '\x01');
}

TEST_P(TouchTest, MemslotMovesUnderAPausedAndARunningGuest) {
  constexpr uint64_t kFrames = 512;
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames);
  AddMemslot(vm, "other", 1 << 12, kFrames);
  ASSERT_OK(vm.LoadGuest(0, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)},
                                             .write = true,
                                             .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  for (int i = 0; i < 10; ++i) {
    const Gfn to(static_cast<uint64_t>(2 + i) << 12);
    ASSERT_OK(vm.UpdateMemslot("other", {.base_gfn = to}, "").status());
    EXPECT_EQ(vm.GetMemslot("other")->config.base_gfn, to);
  }
  ASSERT_OK(vm.DeleteMemslot("other", ""));
  ASSERT_OK(vm.Stop().status());
  ExpectCleanAudit(vm, {Gfn(0), Gfn(1 << 20)});
}

TEST_P(TouchTest, ZapAllUnderARunningGuestGivesTheTablesBack) {
  constexpr uint64_t kFrames = 8192;
  Vm& vm = CreateVm(GetParam(), 2);
  AddMemslot(vm, "ram", 0, kFrames);
  ASSERT_OK(vm.LoadGuest(-1, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)},
                                              .pattern = TouchPattern::kUniform,
                                              .write = true,
                                              .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(*vm.ZapAll(/*wait=*/i % 2 == 0), 1);
    MapAll(vm, {Gfn(0), Gfn(1024)}, true);
    ExpectCleanAudit(vm, WholeRange(vm));
  }
  ASSERT_OK(vm.Stop().status());
  EXPECT_EQ(*vm.ZapAll(/*wait=*/true), 1);
  const VmStats stats = vm.Stats();
  EXPECT_EQ(stats.page_table_bytes, kPageSize);
  EXPECT_EQ(stats.leaf_4k_count, 0);
  EXPECT_EQ(stats.leaf_2m_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

}  // namespace
}  // namespace tdp
