// KvmGuestTest: the fixture of tests that run a guest on the host's KVM. They
// are skipped only where /dev/kvm is missing.
//
// Thread safety: as GoogleTest's fixtures.

#ifndef ENGINE_KVM_KVM_GUEST_FIXTURE_H_
#define ENGINE_KVM_KVM_GUEST_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/types.h"
#include "engine/kvm/boot.h"
#include "engine/kvm/kvm.h"
#include "engine/kvm/private_memory.h"

namespace tdp {

class KvmGuestTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kPrivateSlot = 100;

  void SetUp() override {
    if (access("/dev/kvm", F_OK) != 0) {
      GTEST_SKIP() << "KVM: /dev/kvm is missing";
    }
    auto kvm = Kvm::Open(MakeHostKvmSystemCalls());
    ASSERT_TRUE(kvm.ok()) << kvm.status();
    kvm_ = *std::move(kvm);
    auto vm = kvm_->CreateVm();
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *std::move(vm);
    auto vcpu = vm_->CreateVcpu(0);
    ASSERT_TRUE(vcpu.ok()) << vcpu.status();
    vcpu_ = *std::move(vcpu);
  }

  void TearDown() override {
    vcpu_.reset();
    vm_.reset();
    for (const auto& [memory, size] : mappings_) munmap(memory, size);
  }

  // Gives the guest `size` bytes of zeros at `gpa`.
  uint8_t* AddMemory(Gpa gpa, uint64_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    mappings_.emplace_back(memory, size);
    const absl::Status status =
        vm_->SetMemslot({.id = next_slot_++,
                         .gpa = gpa,
                         .size = size,
                         .hva = Hva(reinterpret_cast<uintptr_t>(memory))});
    EXPECT_TRUE(status.ok()) << status;
    return static_cast<uint8_t*>(memory);
  }

  static void Put(uint8_t* memory, std::initializer_list<int> code) {
    for (const int byte : code) *memory++ = static_cast<uint8_t>(byte);
  }

  // Maps `ranges` one to one for long mode.
  void InstallPrivateMemory(std::vector<GfnRange> ranges) {
    if (private_ == nullptr) {
      auto memory =
          PrivateMemory::Create(PrivateBase(kvm_->physical_address_bits()), 2);
      ASSERT_TRUE(memory.ok()) << memory.status();
      private_ = *std::move(memory);
    }
    const absl::Status status = private_->Install(*vm_, kPrivateSlot, ranges);
    ASSERT_TRUE(status.ok()) << status;
  }

  void StartLongMode(uint64_t entry, uint64_t argument) {
    const absl::Status status =
        SetUpLongMode(*vcpu_, {.page_table_root = private_->page_table_root(),
                               .gdt = private_->gdt(),
                               .entry = entry,
                               .argument = argument,
                               .stack = private_->stack_top(0).value()});
    ASSERT_TRUE(status.ok()) << status;
  }

  void StartRealMode(uint64_t entry) {
    const absl::Status status = SetUpRealMode(*vcpu_, Gpa(entry));
    ASSERT_TRUE(status.ok()) << status;
  }

  uint64_t Rip() const {
    const absl::StatusOr<uint64_t> rip = vcpu_->InstructionPointer();
    EXPECT_TRUE(rip.ok()) << rip.status();
    return rip.value_or(0);
  }

  std::unique_ptr<Kvm> kvm_;
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<KvmVcpu> vcpu_;
  std::unique_ptr<PrivateMemory> private_;

 private:
  uint32_t next_slot_ = 0;
  std::vector<std::pair<void*, size_t>> mappings_;
};

}  // namespace tdp

#endif  // ENGINE_KVM_KVM_GUEST_FIXTURE_H_
