#include "engine/kvm/private_memory.h"

#include <gtest/gtest.h>

#include "engine/base/errors.h"
#include "engine/kvm/fake_kvm.h"
#include "engine/kvm/kvm_guest_fixture.h"

namespace tdp {
namespace {

constexpr uint64_t kEntryAddress = 0x000ffffffffff000;
constexpr uint64_t kLargePageAddress = 0x000fffffffe00000;
constexpr uint32_t kSlot = 7;

// Translates as the CPU would; -1 where it would fault.
uint64_t Translate(const PrivateMemory& memory, uint64_t address) {
  uint64_t table = memory.page_table_root().value();
  for (const PageLevel level :
       {PageLevel::k512G, PageLevel::k1G, PageLevel::k2M}) {
    const uint64_t* entries = reinterpret_cast<const uint64_t*>(
        memory.hva().value() + (Gpa(table) - memory.base()));
    const uint64_t entry = entries[IndexIn(GfnOf(Gpa(address)), level)];
    if ((entry & 1) == 0) return ~uint64_t{0};
    if (level == PageLevel::k2M) {
      return (entry & kLargePageAddress) | (address & ~kLargePageAddress);
    }
    table = entry & kEntryAddress;
  }
  return ~uint64_t{0};
}

class PrivateMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    vm_ = *(*Kvm::Open(fake_))->CreateVm();
    memory_ = *PrivateMemory::Create(PrivateBase(48), 4);
  }
  absl::Status Install(std::vector<GfnRange> ranges) {
    return memory_->Install(*vm_, kSlot, ranges);
  }
  bool IsMapped(uint64_t address) {
    const uint64_t result = Translate(*memory_, address);
    EXPECT_TRUE(result == address || result == ~uint64_t{0});
    return result == address;
  }

  std::shared_ptr<FakeKvm> fake_ = std::make_shared<FakeKvm>();
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<PrivateMemory> memory_;
};

TEST(GuestLayoutTest, ThePrivateSlotIsWithinWhatTheCpuAddresses) {
  EXPECT_EQ(PrivateBase(52), Gpa(uint64_t{1} << 46));
  EXPECT_EQ(PrivateBase(48), Gpa(uint64_t{1} << 46));
  EXPECT_EQ(PrivateBase(47), Gpa(uint64_t{1} << 46));
  EXPECT_EQ(PrivateBase(46), Gpa(uint64_t{1} << 45));
  EXPECT_EQ(PrivateBase(36), Gpa(uint64_t{1} << 35));
  EXPECT_EQ(MaxUserGfn(48), Gfn((uint64_t{1} << 34) - 1));
}

TEST_F(PrivateMemoryTest, RangesAreMappedOneToOneInLargePages) {
  ASSERT_TRUE(Install({{Gfn(0), Gfn(1)}, {Gfn(0x40000), Gfn(0x40201)}}).ok());
  EXPECT_TRUE(IsMapped(0));
  EXPECT_TRUE(IsMapped(0x1fffff));
  EXPECT_FALSE(IsMapped(0x200000));
  EXPECT_FALSE(IsMapped(0x3fffffff));
  EXPECT_TRUE(IsMapped(0x40000000));
  EXPECT_TRUE(IsMapped(0x403fffff));
  EXPECT_FALSE(IsMapped(0x40400000));
}

TEST_F(PrivateMemoryTest, ItMapsItselfAndNothingBehind) {
  ASSERT_TRUE(Install({}).ok());
  const uint64_t base = memory_->base().value();
  EXPECT_FALSE(IsMapped(base - 1));
  EXPECT_TRUE(IsMapped(base));
  EXPECT_TRUE(IsMapped(base + kPrivateBytes - 1));
  EXPECT_FALSE(IsMapped(base + kPrivateBytes));
}

TEST_F(PrivateMemoryTest, TheHighestUserFrameIsMapped) {
  const Gfn last = MaxUserGfn(48);
  ASSERT_TRUE(Install({{last, last + 1}}).ok());
  EXPECT_TRUE(IsMapped(GpaOf(last).value()));
}

TEST_F(PrivateMemoryTest, RangesInTheCanonicalHoleAreRefused) {
  const Gfn end = GfnOf(Gpa(kCanonicalLowHalfEnd));
  EXPECT_FALSE(Install({{end - 1, end + 1}}).ok());
  EXPECT_TRUE(fake_->memslots().empty());
}

TEST_F(PrivateMemoryTest, AMapThatDoesNotFitIsRefusedAndASmallerOneWorks) {
  // 16 TiB in 2 MiB pages take 64 MiB of tables.
  const absl::Status status = Install({{Gfn(0), Gfn(uint64_t{1} << 32)}});
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kLimitReached);
  EXPECT_TRUE(fake_->memslots().empty());
  EXPECT_TRUE(Install({{Gfn(0), Gfn(uint64_t{1} << 28)}}).ok());
  EXPECT_TRUE(IsMapped((uint64_t{1} << 40) - 1));
}

TEST_F(PrivateMemoryTest, InstallingMakesTheMemslotAndRemovingTakesItOut) {
  ASSERT_TRUE(Install({}).ok());
  const auto region = fake_->memslots()[kSlot];
  EXPECT_EQ(region.guest_phys_addr, memory_->base().value());
  EXPECT_EQ(region.memory_size, kPrivateBytes);
  EXPECT_TRUE(memory_->Remove(*vm_).ok());
  EXPECT_TRUE(fake_->memslots().empty());
  EXPECT_TRUE(memory_->Remove(*vm_).ok());
}

TEST_F(PrivateMemoryTest, AFailedMemslotCanBeInstalledAgain) {
  fake_->FailIoctl(KVM_SET_USER_MEMORY_REGION, -ENOMEM);
  EXPECT_FALSE(Install({}).ok());
  EXPECT_TRUE(Install({}).ok());
  fake_->FailIoctl(KVM_SET_USER_MEMORY_REGION, -EINTR);
  EXPECT_FALSE(Install({}).ok());
  EXPECT_EQ(fake_->memslots().size(), 1u);
  EXPECT_TRUE(Install({}).ok());
}

TEST_F(PrivateMemoryTest, PartsOfTheVcpusDoNotOverlap) {
  for (int i = 0; i + 1 < 4; ++i) {
    EXPECT_EQ(memory_->touch_block_gpa(i + 1) - memory_->touch_block_gpa(i),
              kPageSize);
    EXPECT_EQ(memory_->stack_top(i + 1) - memory_->stack_top(i), kStackBytes);
  }
  EXPECT_EQ(memory_->stack_top(0) - memory_->base(),
            kStackOffset + kStackBytes);
  EXPECT_EQ(memory_->touch_block_gpa(1) - memory_->base(),
            reinterpret_cast<uintptr_t>(memory_->touch_block(1)) -
                memory_->hva().value());
}

class RealPrivateMemoryTest : public KvmGuestTest {};

TEST_F(RealPrivateMemoryTest, AGuestSeesANewMapAtItsNextStart) {
  // The same tables map one range, then another: KVM must not keep the old.
  uint8_t* low = AddMemory(Gpa(0), 2 << 20);
  uint8_t* first = AddMemory(Gpa(uint64_t{1} << 30), 2 << 20);
  uint8_t* second = AddMemory(Gpa(uint64_t{1} << 31), 2 << 20);
  const Gfn first_gfn = GfnOf(Gpa(uint64_t{1} << 30));
  const Gfn second_gfn = GfnOf(Gpa(uint64_t{1} << 31));
  // inc byte [rdi]; hlt
  Put(low, {0xfe, 0x07, 0xf4});
  for (int round = 1; round <= 3; ++round) {
    InstallPrivateMemory({{first_gfn, first_gfn + 512}, {Gfn(0), Gfn(1)}});
    StartLongMode(0, uint64_t{1} << 30);
    ASSERT_EQ(vcpu_->Run().kind, VcpuExit::Kind::kHlt);
    EXPECT_EQ(first[0], round);
    StartLongMode(0, uint64_t{1} << 31);
    ASSERT_EQ(vcpu_->Run().kind, VcpuExit::Kind::kShutdown);

    InstallPrivateMemory({{second_gfn, second_gfn + 512}, {Gfn(0), Gfn(1)}});
    StartLongMode(0, uint64_t{1} << 31);
    ASSERT_EQ(vcpu_->Run().kind, VcpuExit::Kind::kHlt);
    EXPECT_EQ(second[0], round);
    StartLongMode(0, uint64_t{1} << 30);
    ASSERT_EQ(vcpu_->Run().kind, VcpuExit::Kind::kShutdown);
  }
}

TEST_F(RealPrivateMemoryTest, AGuestThatDestroysItsTablesHarmsOnlyItself) {
  uint8_t* low = AddMemory(Gpa(0), 2 << 20);
  // xor eax, eax; mov [rdi], rax; mov cr3 <- cr3; hlt
  Put(low,
      {0x31, 0xc0, 0x48, 0x89, 0x07, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xf4});
  InstallPrivateMemory({{Gfn(0), Gfn(512)}});
  StartLongMode(0, private_->page_table_root().value());
  EXPECT_EQ(vcpu_->Run().kind, VcpuExit::Kind::kShutdown);
  InstallPrivateMemory({{Gfn(0), Gfn(512)}});
  Put(low, {0xf4});
  StartLongMode(0, 0);
  EXPECT_EQ(vcpu_->Run().kind, VcpuExit::Kind::kHlt);
}

}  // namespace
}  // namespace tdp
