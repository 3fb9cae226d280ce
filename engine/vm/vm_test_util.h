// What tests of whole VMs share: a registry on this host, and the steps that
// most of them take.
//
// Thread safety: belongs to the test's thread.

#ifndef ENGINE_VM_VM_TEST_UTIL_H_
#define ENGINE_VM_VM_TEST_UTIL_H_

#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_registry.h"
#include "gtest/gtest.h"

#define ASSERT_OK(expression)                 \
  do {                                        \
    const absl::Status ok_status(expression); \
    ASSERT_TRUE(ok_status.ok()) << ok_status; \
  } while (false)
#define EXPECT_OK(expression)                 \
  do {                                        \
    const absl::Status ok_status(expression); \
    EXPECT_TRUE(ok_status.ok()) << ok_status; \
  } while (false)

namespace tdp {

// The reason of an error of ours.
inline ErrorReason ReasonOf(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = DetailOf(status);
  EXPECT_TRUE(detail.has_value()) << status;
  return detail.has_value() ? detail->reason : ErrorReason::kInternal;
}

class VmTest : public testing::Test {
 protected:
  // Long enough for a loaded machine; no test waits for it to pass.
  static constexpr absl::Duration kPatience = absl::Seconds(60);

  void SetUp() override {
    auto registry = VmRegistry::Create(options_);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
  }

  bool HasKvm() const {
    return registry_->default_hypervisor() == HypervisorKind::kKvm;
  }

  Vm& CreateVm(HypervisorKind hypervisor, int vcpu_count,
               VmConfig config = {}) {
    config.hypervisor = hypervisor;
    config.vcpu_count = vcpu_count;
    const std::string id = absl::StrCat("vm", next_id_++);
    EXPECT_OK(registry_->CreateVm(id, config, false).status());
    vms_.push_back(*registry_->FindVm(id));
    return *vms_.back();
  }

  static void AddMemslot(Vm& vm, const std::string& id, uint64_t base_gfn,
                         int64_t frame_count, MemslotConfig config = {}) {
    config.base_gfn = Gfn(base_gfn);
    config.frame_count = frame_count;
    EXPECT_OK(vm.CreateMemslot(id, config, false).status());
  }

  static GfnRange WholeRange(const Vm& vm) {
    const auto slots = vm.ListMemslots();
    const MemslotConfig& last = slots.back().config;
    return {slots.front().config.base_gfn,
            last.base_gfn + static_cast<uint64_t>(last.frame_count)};
  }

  static int64_t MapAll(Vm& vm, GfnRange range, bool write, int max_level = 0) {
    int64_t mapped = 0;
    while (!range.empty()) {
      const auto progress = vm.MapRange(range, max_level, write, {});
      EXPECT_TRUE(progress.ok()) << progress.status();
      if (!progress.ok()) break;
      mapped += progress->changed;
      range.start = progress->next_gfn;
    }
    return mapped;
  }

  static void AwaitState(const Vm& vm, VmState state) {
    const absl::Time end = absl::Now() + kPatience;
    while (vm.Describe().state != state) {
      ASSERT_LT(absl::Now(), end) << "the VM does not reach its state";
      absl::SleepFor(absl::Microseconds(200));
    }
  }

  static void RunToEnd(Vm& vm) {
    ASSERT_OK(vm.Start().status());
    AwaitState(vm, VmState::kStopped);
  }

  static WaitingAccess AwaitWaiting(const Vm& vm, int vcpu) {
    const absl::Time end = absl::Now() + kPatience;
    for (;;) {
      const VcpuInfo info = *vm.GetVcpu(vcpu);
      if (info.waiting_access.has_value()) return *info.waiting_access;
      if (absl::Now() > end) {
        ADD_FAILURE() << "the vCPU does not come to wait";
        return {};
      }
      absl::SleepFor(absl::Microseconds(200));
    }
  }

  // The first byte of each of `frames` frames from `gpa` on is `value`.
  static void ExpectBytes(Vm& vm, uint64_t gpa, uint64_t frames, char value) {
    for (uint64_t i = 0; i < frames; ++i) {
      const auto bytes = vm.ReadMemory(Gpa(gpa + i * kPageSize), 1);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      ASSERT_EQ((*bytes)[0], value) << "frame " << i;
    }
  }

  // Every frame of `range`, to which vCPU `index` wrote in passes without end
  // until it was stopped, holds the byte of its last or present pass.
  static void ExpectBytesOfPasses(Vm& vm, int index, GfnRange range) {
    const uint64_t touched =
        static_cast<uint64_t>(vm.GetVcpu(index)->touched_frame_count);
    const uint64_t done = touched / range.size();
    ASSERT_GT(done, 0u) << "the guest did not get through one pass";
    uint64_t present = 0;
    for (Gfn gfn = range.start; gfn < range.end; gfn = gfn + 1) {
      const auto bytes = vm.ReadMemory(GpaOf(gfn), 1);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      const auto byte = static_cast<uint8_t>((*bytes)[0]);
      ASSERT_TRUE(byte == static_cast<uint8_t>(done) ||
                  byte == static_cast<uint8_t>(done + 1))
          << "frame " << gfn.value() << " holds " << int{byte} << " in pass "
          << done + 1;
      present += byte == static_cast<uint8_t>(done + 1) ? 1 : 0;
    }
    // A write that was made is counted, except perhaps the last one.
    EXPECT_GE(present, touched % range.size());
    EXPECT_LE(present, touched % range.size() + 1);
  }

  static void ExpectCleanAudit(Vm& vm, GfnRange range) {
    while (!range.empty()) {
      const auto result = vm.AuditRange(range, 10, {});
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->divergent_frame_count, 0);
      range.start = result->next_gfn;
    }
  }

  VmRegistryOptions options_;
  std::unique_ptr<VmRegistry> registry_;

 private:
  std::vector<std::shared_ptr<Vm>> vms_;
  int next_id_ = 0;
};

// The same on KVM and on the software hypervisor.
class VmOnEachHypervisorTest
    : public VmTest,
      public testing::WithParamInterface<HypervisorKind> {
 public:
  static std::string Suffix(
      const testing::TestParamInfo<HypervisorKind>& info) {
    return info.param == HypervisorKind::kKvm ? "Kvm" : "Software";
  }

 protected:
  void SetUp() override {
    VmTest::SetUp();
    if (GetParam() == HypervisorKind::kKvm && !HasKvm()) {
      GTEST_SKIP() << "KVM does not work here";
    }
  }
};

// The name of the suite's instances: "Hypervisors".
#define INSTANTIATE_ON_EACH_HYPERVISOR(suite)                           \
  INSTANTIATE_TEST_SUITE_P(                                             \
      Hypervisors, suite,                                               \
      testing::Values(HypervisorKind::kKvm, HypervisorKind::kSoftware), \
      suite::Suffix)

// The same in each way in which writes become known, on each of them.
class VmInEachDirtyModeTest : public VmTest,
                              public testing::WithParamInterface<
                                  std::tuple<HypervisorKind, DirtyMode>> {
 public:
  static std::string Suffix(const testing::TestParamInfo<ParamType>& info) {
    const auto [hypervisor, mode] = info.param;
    return absl::StrCat(
        hypervisor == HypervisorKind::kKvm ? "Kvm" : "Software",
        mode == DirtyMode::kHarvest ? "Harvest" : "WriteProtect");
  }

 protected:
  void SetUp() override {
    VmTest::SetUp();
    if (OnKvm() && !HasKvm()) GTEST_SKIP() << "KVM does not work here";
  }
  static HypervisorKind Hypervisor() { return std::get<0>(GetParam()); }
  static bool OnKvm() { return Hypervisor() == HypervisorKind::kKvm; }
  static DirtyMode Mode() { return std::get<1>(GetParam()); }
  // Whether writes can be held back. If not, the log may also report frames
  // that were only zapped.
  static bool WriteProtects() {
    return OnKvm() || Mode() == DirtyMode::kWriteProtect;
  }
};

// The name of the suite's instances: "Ways".
#define INSTANTIATE_IN_EACH_DIRTY_MODE(suite)                               \
  INSTANTIATE_TEST_SUITE_P(                                                 \
      Ways, suite,                                                          \
      testing::Combine(                                                     \
          testing::Values(HypervisorKind::kKvm, HypervisorKind::kSoftware), \
          testing::Values(DirtyMode::kWriteProtect, DirtyMode::kHarvest)),  \
      suite::Suffix)

}  // namespace tdp

#endif  // ENGINE_VM_VM_TEST_UTIL_H_
