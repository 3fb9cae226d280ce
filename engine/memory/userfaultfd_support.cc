#include "engine/memory/userfaultfd_support.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

struct NamedFeature {
  const char* name;
  uint64_t bit;
  const char* kernel;  // the first one that has it
};

constexpr NamedFeature kFeatures[] = {
    {"userfaultfd.missing_shmem", UFFD_FEATURE_MISSING_SHMEM, "4.11"},
    {"userfaultfd.missing_hugetlbfs", UFFD_FEATURE_MISSING_HUGETLBFS, "4.11"},
    {"userfaultfd.thread_id", UFFD_FEATURE_THREAD_ID, "4.14"},
    {"userfaultfd.write_protect", UFFD_FEATURE_PAGEFAULT_FLAG_WP, "5.7"},
    {"userfaultfd.minor_hugetlbfs", UFFD_FEATURE_MINOR_HUGETLBFS, "5.13"},
    {"userfaultfd.minor_shmem", UFFD_FEATURE_MINOR_SHMEM, "5.14"},
    {"userfaultfd.exact_address", UFFD_FEATURE_EXACT_ADDRESS, "5.18"},
    {"userfaultfd.write_protect_shmem", UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
     "5.19"},
    // UFFDIO_CONTINUE_MODE_WP has no bit of its own; it came with this one.
    {"userfaultfd.continue_write_protected", kFeatureWriteProtectUnpopulated,
     "6.4"},
};

constexpr char kPermissionFix[] =
    "give the daemon's user read and write access to /dev/userfaultfd (a udev "
    "rule or chgrp and chmod 0660), or the capability CAP_SYS_PTRACE, or set "
    "sysctl vm.unprivileged_userfaultfd=1";

}  // namespace

bool UserfaultfdSupport::Complete() const {
  return std::all_of(features.begin(), features.end(),
                     [](const UserfaultfdFeature& f) { return f.available; });
}

UserfaultfdSupport ProbeUserfaultfd(const UserfaultfdOptions& options) {
  const UserfaultfdOpening opening = OpenUserfaultfd(options);
  uint64_t bits = 0;
  if (opening.fd >= 0) {
    uffdio_api api = {};
    api.api = UFFD_API;
    if (ioctl(opening.fd, UFFDIO_API, &api) == 0) bits = api.features;
    close(opening.fd);
  }
  return DescribeUserfaultfd(opening, bits);
}

UserfaultfdSupport DescribeUserfaultfd(const UserfaultfdOpening& opening,
                                       uint64_t feature_bits) {
  UserfaultfdSupport support;
  support.way = opening.way;
  const bool open = opening.way != UserfaultfdWay::kNone;
  UserfaultfdFeature base;
  base.name = "userfaultfd";
  base.available = open;
  if (!open) {
    base.hint =
        absl::StrCat("userfaultfd may not be used (/dev/userfaultfd: ",
                     strerror(opening.device_error),
                     "; userfaultfd(2): ", strerror(opening.system_call_error),
                     "); ", kPermissionFix);
  }
  support.features.push_back(base);
  for (const NamedFeature& feature : kFeatures) {
    const bool available = open && (feature_bits & feature.bit) != 0;
    std::string hint;
    if (!open) {
      hint = "userfaultfd may not be used, see capability userfaultfd";
    } else if (!available) {
      hint = absl::StrCat("the kernel lacks ", feature.name, "; boot Linux ",
                          feature.kernel,
                          " or newer, built with CONFIG_USERFAULTFD, "
                          "CONFIG_PTE_MARKER_UFFD_WP and CONFIG_SHMEM");
    }
    support.features.push_back({feature.name, available, hint});
  }
  return support;
}

absl::Status UserfaultfdMissingError(const UserfaultfdSupport& support) {
  for (const UserfaultfdFeature& feature : support.features) {
    if (feature.available) continue;
    return MakeError(ErrorReason::kCapabilityMissing,
                     absl::StrCat("capability ", feature.name,
                                  " is missing: ", feature.hint),
                     {{"capability", feature.name}, {"hint", feature.hint}});
  }
  return InternalError(
      "the kernel refused a userfaultfd although it offers every feature");
}

}  // namespace tdp
