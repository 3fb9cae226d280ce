#include "engine/kvm/kvm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "engine/base/errors.h"
#include "engine/kvm/fake_kvm.h"

namespace tdp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kUnrestrictedGuest[] =
    "/sys/module/kvm_intel/parameters/unrestricted_guest";

std::vector<std::string> NamesOf(
    const std::vector<KvmCapability>& capabilities) {
  std::vector<std::string> names;
  for (const KvmCapability& capability : capabilities) {
    names.push_back(capability.name);
  }
  return names;
}

KvmCapability Find(const Kvm& kvm, const std::string& name) {
  for (const KvmCapability& capability : kvm.capabilities()) {
    if (capability.name == name) return capability;
  }
  ADD_FAILURE() << "no capability " << name;
  return {};
}

kvm_cpuid_entry2 Leaf(uint32_t function, uint32_t eax) {
  kvm_cpuid_entry2 entry = {};
  entry.function = function;
  entry.eax = eax;
  return entry;
}

// Opening fails as CAPABILITY_MISSING, says `text`, and leaks nothing.
void ExpectMissing(const std::shared_ptr<FakeKvm>& fake,
                   const std::string& text) {
  const absl::Status status = Kvm::Open(fake).status();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kCapabilityMissing);
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  EXPECT_THAT(std::string(status.message()), HasSubstr("software hypervisor"));
  EXPECT_EQ(fake->open_count(), 0);
}

class KvmTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeKvm> fake_ = std::make_shared<FakeKvm>();
};

TEST_F(KvmTest, ACompleteKvmHasEveryCapability) {
  const auto kvm = Kvm::Open(fake_);
  ASSERT_TRUE(kvm.ok()) << kvm.status();
  EXPECT_THAT(
      NamesOf((*kvm)->capabilities()),
      ElementsAre("kvm", "kvm.user_memory", "kvm.sync_mmu",
                  "kvm.immediate_exit", "kvm.supported_cpuid",
                  "kvm.nr_memslots", "kvm.real_mode", "kvm.memory_fault_info",
                  "kvm.dirty_log_manual", "kvm.dirty_ring"));
  for (const KvmCapability& capability : (*kvm)->capabilities()) {
    EXPECT_TRUE(capability.available) << capability.name;
    EXPECT_EQ(capability.hint, "") << capability.name;
  }
  EXPECT_EQ((*kvm)->memslot_count(), 32764);
  EXPECT_EQ((*kvm)->max_vcpu_count(), 1024);
  EXPECT_EQ((*kvm)->physical_address_bits(), 48);
  EXPECT_TRUE((*kvm)->real_mode_supported());
}

TEST_F(KvmTest, TheListIsTheSameWithoutKvm) {
  const auto kvm = Kvm::Open(fake_);
  ASSERT_TRUE(kvm.ok());
  fake_->set_open_error(ENOENT);
  const absl::Status error = Kvm::Open(fake_).status();
  const auto without = Kvm::CapabilitiesWithout(error);
  EXPECT_EQ(NamesOf(without), NamesOf((*kvm)->capabilities()));
  for (const KvmCapability& capability : without) {
    EXPECT_FALSE(capability.available);
    EXPECT_EQ(capability.hint, std::string(error.message()));
  }
}

TEST_F(KvmTest, AMissingDeviceNamesTheModule) {
  fake_->set_open_error(ENOENT);
  ExpectMissing(fake_, "load kvm_intel or kvm_amd");
}

TEST_F(KvmTest, AForbiddenDeviceNamesTheGroup) {
  fake_->set_open_error(EACCES);
  ExpectMissing(fake_, "group");
}

TEST_F(KvmTest, ADevicePolicyNamesTheOption) {
  fake_->set_open_error(EPERM);
  ExpectMissing(fake_, "DeviceAllow=/dev/kvm");
}

TEST_F(KvmTest, AnotherErrorOfOpenIsNamed) {
  fake_->set_open_error(EMFILE);
  ExpectMissing(fake_, "Too many open files");
}

TEST_F(KvmTest, AnotherApiVersionIsRefused) {
  fake_->FailIoctl(KVM_GET_API_VERSION, 11);
  ExpectMissing(fake_, "API version 11");
}

TEST_F(KvmTest, EachRequiredCapabilityIsRequired) {
  const std::pair<int, std::string> required[] = {
      {KVM_CAP_USER_MEMORY, "kvm.user_memory"},
      {KVM_CAP_SYNC_MMU, "kvm.sync_mmu"},
      {KVM_CAP_IMMEDIATE_EXIT, "kvm.immediate_exit"},
      {KVM_CAP_EXT_CPUID, "kvm.supported_cpuid"}};
  for (const auto& [extension, name] : required) {
    auto fake = std::make_shared<FakeKvm>();
    fake->set_extension(extension, 0);
    ExpectMissing(fake, name);
  }
}

TEST_F(KvmTest, ACpuInUseByAnotherHypervisorIsNamed) {
  fake_->FailIoctl(KVM_CREATE_VM, -EBUSY);
  ExpectMissing(fake_, "another hypervisor");
}

TEST_F(KvmTest, AFailedVmIsNamed) {
  fake_->FailIoctl(KVM_CREATE_VM, -ENOMEM);
  ExpectMissing(fake_, "KVM_CREATE_VM");
}

TEST_F(KvmTest, AnInterruptedVmIsTriedAgain) {
  fake_->FailIoctl(KVM_CREATE_VM, -EINTR, 3);
  EXPECT_TRUE(Kvm::Open(fake_).ok());
}

TEST_F(KvmTest, AFailedCpuidIsNamed) {
  fake_->FailIoctl(kKvmGetSupportedCpuid, -ENOMEM, 10);
  ExpectMissing(fake_, "KVM_GET_SUPPORTED_CPUID");
}

TEST_F(KvmTest, ALongCpuidIsReadWhole) {
  std::vector<kvm_cpuid_entry2> entries(600, Leaf(7, 0));
  entries.push_back(Leaf(0x80000008, 0x3027));
  fake_->set_cpuid(entries);
  const auto kvm = Kvm::Open(fake_);
  ASSERT_TRUE(kvm.ok()) << kvm.status();
  EXPECT_EQ((*kvm)->physical_address_bits(), 39);
}

TEST_F(KvmTest, AnEndlessCpuidIsRefused) {
  fake_->set_cpuid(std::vector<kvm_cpuid_entry2>(5000, Leaf(7, 0)));
  ExpectMissing(fake_, "KVM_GET_SUPPORTED_CPUID");
}

TEST_F(KvmTest, ASmallerGuestAddressWidthCounts) {
  fake_->set_cpuid({Leaf(0x80000008, 0x303934)});
  const auto kvm = Kvm::Open(fake_);
  ASSERT_TRUE(kvm.ok());
  EXPECT_EQ((*kvm)->physical_address_bits(), 48);
}

TEST_F(KvmTest, OptionalCapabilitiesComeWithAHint) {
  fake_->set_extension(KVM_CAP_NR_MEMSLOTS, 509);
  fake_->set_extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0);
  fake_->set_extension(KVM_CAP_DIRTY_LOG_RING, 0);
  fake_->set_extension(232, 0);
  fake_->set_line(kUnrestrictedGuest, "N");
  const auto kvm = Kvm::Open(fake_);
  ASSERT_TRUE(kvm.ok()) << kvm.status();
  EXPECT_EQ((*kvm)->memslot_count(), 509);
  EXPECT_FALSE((*kvm)->real_mode_supported());
  for (const char* name :
       {"kvm.nr_memslots", "kvm.dirty_log_manual", "kvm.dirty_ring",
        "kvm.memory_fault_info", "kvm.real_mode"}) {
    const KvmCapability capability = Find(**kvm, name);
    EXPECT_FALSE(capability.available) << name;
    EXPECT_NE(capability.hint, "") << name;
  }
  EXPECT_TRUE(Find(**kvm, "kvm").available);
}

TEST_F(KvmTest, OverlappingMemslotsAreRefusedAndTheOldOneStays) {
  const auto vm = (*Kvm::Open(fake_))->CreateVm();
  ASSERT_TRUE(vm.ok());
  const KvmMemslot slot = {
      .id = 0, .gpa = Gpa(0x10000), .size = 0x4000, .hva = Hva(0x100000)};
  ASSERT_TRUE((*vm)->SetMemslot(slot).ok());
  KvmMemslot other = slot;
  other.id = 1;
  other.gpa = Gpa(0x13000);
  const absl::Status status = (*vm)->SetMemslot(other);
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kMemslotOverlap);
  EXPECT_EQ(fake_->memslots().size(), 1u);
  other.gpa = Gpa(0x14000);
  EXPECT_TRUE((*vm)->SetMemslot(other).ok());
}

TEST_F(KvmTest, MemslotsCanBeChangedAndDeletedOnce) {
  const auto vm = (*Kvm::Open(fake_))->CreateVm();
  ASSERT_TRUE(vm.ok());
  KvmMemslot slot = {
      .id = 3, .gpa = Gpa(0x1000), .size = 0x1000, .hva = Hva(0x100000)};
  ASSERT_TRUE((*vm)->SetMemslot(slot).ok());
  slot.log_dirty_pages = true;
  ASSERT_TRUE((*vm)->SetMemslot(slot).ok());
  EXPECT_EQ(fake_->memslots()[3].flags, uint32_t{KVM_MEM_LOG_DIRTY_PAGES});
  EXPECT_TRUE((*vm)->DeleteMemslot(3).ok());
  EXPECT_TRUE(fake_->memslots().empty());
  EXPECT_FALSE((*vm)->DeleteMemslot(3).ok());
}

TEST_F(KvmTest, TheDirtyLogIsTakenOnceAndOnlyWhereItIsOn) {
  const auto vm = (*Kvm::Open(fake_))->CreateVm();
  ASSERT_TRUE(vm.ok());
  KvmMemslot slot = {.id = 3,
                     .gpa = Gpa(0x1000),
                     .size = 70 * kPageSize,
                     .hva = Hva(0x100000)};
  ASSERT_TRUE((*vm)->SetMemslot(slot).ok());
  std::array<uint64_t, 2> words = {1, 1};
  fake_->WriteFrame(3, 1);
  ASSERT_TRUE((*vm)->TakeDirtyLog(3, absl::MakeSpan(words)).ok());
  EXPECT_EQ(words, (std::array<uint64_t, 2>{0, 0}));
  slot.log_dirty_pages = true;
  ASSERT_TRUE((*vm)->SetMemslot(slot).ok());
  fake_->WriteFrame(3, 1);
  fake_->WriteFrame(3, 69);
  ASSERT_TRUE((*vm)->TakeDirtyLog(3, absl::MakeSpan(words)).ok());
  EXPECT_EQ(words, (std::array<uint64_t, 2>{2, 32}));
  ASSERT_TRUE((*vm)->TakeDirtyLog(3, absl::MakeSpan(words)).ok());
  EXPECT_EQ(words, (std::array<uint64_t, 2>{0, 0}));
}

TEST_F(KvmTest, FailedMemslotsSayWhatTheKernelSaid) {
  const auto vm = (*Kvm::Open(fake_))->CreateVm();
  ASSERT_TRUE(vm.ok());
  const KvmMemslot odd = {
      .id = 0, .gpa = Gpa(0x10), .size = 0x1000, .hva = Hva(0x1000)};
  EXPECT_THAT(std::string((*vm)->SetMemslot(odd).message()),
              HasSubstr("Invalid argument"));
  fake_->FailIoctl(KVM_SET_USER_MEMORY_REGION, -ENOMEM);
  EXPECT_EQ(DetailOf((*vm)->SetMemslot(odd))->reason,
            ErrorReason::kHostMemoryExhausted);
}

TEST_F(KvmTest, VcpusGetTheirApicIdAndNoParavirtualFeatures) {
  fake_->set_cpuid({Leaf(1, 5), Leaf(0xb, 1), Leaf(0x40000000, 0x40000001),
                    Leaf(0x40000001, 0x1000afb), Leaf(0x80000008, 0x3030)});
  const auto vm = (*Kvm::Open(fake_))->CreateVm();
  ASSERT_TRUE(vm.ok());
  const auto vcpu = (*vm)->CreateVcpu(3);
  ASSERT_TRUE(vcpu.ok()) << vcpu.status();
  EXPECT_EQ((*vcpu)->index(), 3);
  const auto cpuid = fake_->cpuid(3);
  ASSERT_EQ(cpuid.size(), 3u);
  EXPECT_EQ(cpuid[0].eax, 5u);
  EXPECT_EQ(cpuid[0].ebx >> 24, 3u);
  EXPECT_EQ(cpuid[1].edx, 3u);
  EXPECT_EQ(cpuid[2].function, 0x80000008u);
}

TEST_F(KvmTest, FailedVcpusLeakNothing) {
  {
    const auto vm = (*Kvm::Open(fake_))->CreateVm();
    ASSERT_TRUE(vm.ok());
    const int before = fake_->open_count();
    fake_->FailIoctl(KVM_CREATE_VCPU, -EMFILE);
    EXPECT_FALSE((*vm)->CreateVcpu(0).ok());
    fake_->FailIoctl(kKvmSetCpuid2, -EINVAL);
    EXPECT_FALSE((*vm)->CreateVcpu(0).ok());
    fake_->set_map_error(ENOMEM);
    EXPECT_FALSE((*vm)->CreateVcpu(0).ok());
    EXPECT_EQ(fake_->open_count(), before);
    fake_->set_map_error(0);
    EXPECT_TRUE((*vm)->CreateVcpu(0).ok());
  }
  EXPECT_EQ(fake_->open_count(), 0);
}

TEST(HostKvmTest, TheHostsKvmOpensAndMakesVms) {
  if (access("/dev/kvm", F_OK) != 0) {
    GTEST_SKIP() << "KVM: /dev/kvm is missing";
  }
  const auto kvm = Kvm::Open(MakeHostKvmSystemCalls());
  ASSERT_TRUE(kvm.ok()) << kvm.status();
  EXPECT_TRUE(Find(**kvm, "kvm").available);
  EXPECT_GE((*kvm)->physical_address_bits(), 32);
  EXPECT_GE((*kvm)->memslot_count(), 32);
  const auto first = (*kvm)->CreateVm();
  const auto second = (*kvm)->CreateVm();
  ASSERT_TRUE(first.ok() && second.ok());
  const auto vcpu = (*first)->CreateVcpu(0);
  EXPECT_TRUE(vcpu.ok()) << vcpu.status();
  EXPECT_FALSE((*first)->CreateVcpu(0).ok());
  EXPECT_TRUE((*second)->CreateVcpu(0).ok());
}

TEST(HostKvmTest, AMissingFileIsAnErrno) {
  const auto calls = MakeHostKvmSystemCalls();
  EXPECT_EQ(calls->Open("/no/such/device"), -ENOENT);
  EXPECT_EQ(calls->ReadLine("/no/such/file"), "");
}

}  // namespace
}  // namespace tdp
