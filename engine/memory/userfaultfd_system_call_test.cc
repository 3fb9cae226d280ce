// The way through userfaultfd(2), which Bazel's sandbox forbids; this test runs
// outside it.

#include <gtest/gtest.h>

#include "engine/memory/userfaultfd.h"
#include "engine/memory/userfaultfd_support.h"

namespace tdp {
namespace {

TEST(UserfaultfdSystemCallTest, IsTheFallbackWhereTheDeviceIsMissing) {
  const UserfaultfdOptions options = {.device_path = "/nonexistent/device"};
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create(options);
  ASSERT_TRUE(userfaultfd.ok()) << userfaultfd.status();
  EXPECT_EQ(ProbeUserfaultfd(options).way, UserfaultfdWay::kSystemCall);
}

TEST(UserfaultfdSystemCallTest, UserFaultsNeedNoMoreThanTheSystemCall) {
  const UserfaultfdOptions options = {.origin = FaultOrigin::kUserOnly,
                                      .device_path = "/nonexistent/device"};
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create(options);
  EXPECT_TRUE(userfaultfd.ok()) << userfaultfd.status();
}

}  // namespace
}  // namespace tdp
