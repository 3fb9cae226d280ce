// What the tests of memslots of 2M host pages share.
//
// Thread safety: belongs to the test's thread.

#ifndef ENGINE_VM_VM_HUGE_PAGE_TEST_UTIL_H_
#define ENGINE_VM_VM_HUGE_PAGE_TEST_UTIL_H_

#include <cstdint>
#include <utility>

#include "engine/testing/huge_page_pool.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {

inline constexpr int64_t kPoolPages = 6;

// Gets its pages before there are VMs, and loses them when all are gone.
struct WithPool {
  HugePagePool pool{kPoolPages};
};

// On each hypervisor.
class VmHugePageFixture : protected WithPool, public VmOnEachHypervisorTest {
 protected:
  static constexpr uint64_t kPage = FramesPerEntry(PageLevel::k2M);
  static constexpr int64_t kPageBytes = static_cast<int64_t>(kPage * kPageSize);

  void SetUp() override {
    VmOnEachHypervisorTest::SetUp();
    if (!IsSkipped() && !pool.problem().empty()) {
      GTEST_SKIP() << pool.problem();
    }
  }

  // Calls come to their end in one go, however slow the machine is.
  static WorkBudget Unhurried() { return {.time = kPatience}; }
  static MemslotConfig Huge(MemslotConfig config = {}) {
    config.host_page_level = 2;
    return config;
  }
  static GfnRange Frames(uint64_t start, uint64_t end) {
    return {Gfn(start), Gfn(end)};
  }
  // A VM whose frames [0, pages * 512) lie in huge pages.
  Vm& VmWithPages(int64_t pages, MemslotConfig config = {}, int vcpus = 1) {
    Vm& vm = CreateVm(GetParam(), vcpus);
    AddMemslot(vm, "ram", 0, pages * static_cast<int64_t>(kPage),
               Huge(std::move(config)));
    return vm;
  }
  static void Load(Vm& vm, GfnRange range, bool write, int64_t passes = 1) {
    ASSERT_OK(vm.LoadGuest(
        0, TouchGuestConfig{
               .range = range, .write = write, .pass_count = passes}));
  }
  static void Touch(Vm& vm, GfnRange range, bool write) {
    Load(vm, range, write);
    RunToEnd(vm);
  }
};

}  // namespace tdp

#endif  // ENGINE_VM_VM_HUGE_PAGE_TEST_UTIL_H_
