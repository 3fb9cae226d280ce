#include "client/lib/host_checks.h"

#include <errno.h>
#include <sys/resource.h>

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;
using Result = HostCheck::Result;

HostProbe GoodHost() {
  return {
      .kernel_release = [] { return "6.6.13-amd64"; },
      .try_open = [](const std::string&) { return 0; },
      .read_file = [](const std::string& path) -> std::optional<std::string> {
        if (path == "/proc/swaps") return "Filename Type Size\n";
        return "512\n";
      },
      .try_userfaultfd = [] { return 0; },
      .has_membarrier = [] { return true; },
      .max_open_files = [] { return uint64_t{65536}; },
      .max_locked_bytes = [] { return uint64_t{8} << 20; }};
}

// The check called `name` of a host.
HostCheck Find(const HostProbe& probe, const std::string& name) {
  for (HostCheck& check : CheckHost(probe)) {
    if (check.name == name) return check;
  }
  ADD_FAILURE() << "no check is called " << name;
  return {};
}

TEST(HostChecksTest, AGoodHostNeedsNothing) {
  for (const HostCheck& check : CheckHost(GoodHost())) {
    EXPECT_EQ(check.result, Result::kOk) << check.name << ": " << check.found;
    EXPECT_EQ(check.mend, "") << check.name;
    EXPECT_NE(check.found, "") << check.name;
  }
}

TEST(HostChecksTest, TheFirstKernelThatWorksIs64) {
  for (const auto& [release, result] :
       std::map<std::string, Result>{{"6.4.0", Result::kOk},
                                     {"6.3.9", Result::kFailed},
                                     {"7.0.1", Result::kOk},
                                     {"5.19.0", Result::kFailed},
                                     {"6.12.1-cloud", Result::kOk},
                                     {"strange", Result::kFailed}}) {
    HostProbe host = GoodHost();
    host.kernel_release = [&release = release] { return release; };
    EXPECT_EQ(Find(host, "kernel").result, result) << release;
  }
}

TEST(HostChecksTest, KvmIsMissingOrForbiddenAndEachHasItsCommand) {
  HostProbe host = GoodHost();
  host.try_open = [](const std::string& path) {
    return path == "/dev/kvm" ? ENOENT : 0;
  };
  EXPECT_EQ(Find(host, "kvm").result, Result::kWarning);
  EXPECT_THAT(Find(host, "kvm").mend, HasSubstr("modprobe"));
  host.try_open = [](const std::string& path) {
    return path == "/dev/kvm" ? EACCES : 0;
  };
  EXPECT_THAT(Find(host, "kvm").mend, HasSubstr("usermod -aG kvm"));
}

TEST(HostChecksTest, TheSystemCallDoesWhereTheDeviceIsMissing) {
  HostProbe host = GoodHost();
  host.try_open = [](const std::string& path) {
    return path == "/dev/userfaultfd" ? ENOENT : 0;
  };
  EXPECT_EQ(Find(host, "userfaultfd").result, Result::kOk);
  host.try_userfaultfd = [] { return EPERM; };
  EXPECT_EQ(Find(host, "userfaultfd").result, Result::kFailed);
  EXPECT_THAT(Find(host, "userfaultfd").mend, HasSubstr("sysctl"));
  host.try_open = [](const std::string& path) {
    return path == "/dev/userfaultfd" ? EACCES : 0;
  };
  EXPECT_THAT(Find(host, "userfaultfd").mend,
              HasSubstr("60-tdpd.rules /etc/udev/rules.d/ && udevadm control "
                        "--reload && udevadm trigger"));
}

TEST(HostChecksTest, WhatIsMerelyWorseIsAWarning) {
  HostProbe host = GoodHost();
  host.has_membarrier = [] { return false; };
  host.max_open_files = [] { return uint64_t{1024}; };
  host.read_file = [](const std::string& path) -> std::optional<std::string> {
    if (path == "/proc/swaps") return "Filename Type Size\n/dev/sda2 p 1\n";
    return "0\n";
  };
  for (const char* name : {"membarrier", "open files", "hugetlb", "swap"}) {
    EXPECT_EQ(Find(host, name).result, Result::kWarning) << name;
    EXPECT_NE(Find(host, name).mend, "") << name;
  }
}

TEST(HostChecksTest, WhatHasNoLimitIsCalledSo) {
  HostProbe host = GoodHost();
  EXPECT_EQ(Find(host, "open files").found, "65536");
  EXPECT_EQ(Find(host, "locked memory").found, "8192 KiB; tdpd locks none");
  host.max_open_files = [] { return uint64_t{RLIM_INFINITY}; };
  host.max_locked_bytes = [] { return uint64_t{RLIM_INFINITY}; };
  EXPECT_EQ(Find(host, "open files").found, "unlimited");
  EXPECT_EQ(Find(host, "locked memory").found, "unlimited; tdpd locks none");
}

TEST(HostChecksTest, ThisHostCanBeLookedAt) {
  for (const HostCheck& check : CheckHost(SystemProbe())) {
    EXPECT_NE(check.found, "") << check.name;
    EXPECT_EQ(check.result == Result::kOk, check.mend.empty()) << check.name;
  }
}

}  // namespace
}  // namespace tdp::client
