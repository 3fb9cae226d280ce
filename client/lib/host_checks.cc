#include "client/lib/host_checks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tdp::client {
namespace {

using Result = HostCheck::Result;

// UFFDIO_CONTINUE_MODE_WP came with Linux 6.4.
constexpr int kMinMajor = 6;
constexpr int kMinMinor = 4;
// A memslot takes three: its memory, its userfaultfd and perhaps its source.
// vCPUs and connections take some, too.
constexpr uint64_t kMinOpenFiles = 4096;
constexpr char kUserfaultfd[] = "/dev/userfaultfd";

std::string ErrorName(int error) {
  return absl::StrCat(strerror(error), " (errno ", error, ")");
}

std::string LimitText(uint64_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : absl::StrCat(limit);
}

HostCheck CheckKernel(const HostProbe& probe) {
  HostCheck check = {.name = "kernel", .found = probe.kernel_release()};
  int major = 0;
  int minor = 0;
  if (sscanf(check.found.c_str(), "%d.%d", &major, &minor) != 2 ||
      major < kMinMajor || (major == kMinMajor && minor < kMinMinor)) {
    check.result = Result::kFailed;
    check.mend =
        "apt install -t bookworm-backports linux-image-amd64  # 6.4 or later, "
        "then reboot";
  }
  return check;
}

HostCheck CheckKvm(const HostProbe& probe) {
  HostCheck check = {.name = "kvm"};
  const int error = probe.try_open("/dev/kvm");
  if (error == 0) {
    check.found = "/dev/kvm can be opened";
    return check;
  }
  // Built-in guests run without it.
  check.result = Result::kWarning;
  check.found = absl::StrCat("/dev/kvm: ", ErrorName(error));
  check.mend = error == EACCES || error == EPERM
                   ? "usermod -aG kvm \"$USER\"  # then log in again"
                   : "modprobe -a kvm_intel kvm_amd";
  return check;
}

HostCheck CheckUserfaultfd(const HostProbe& probe) {
  HostCheck check = {.name = "userfaultfd"};
  const int device_error = probe.try_open(kUserfaultfd);
  if (device_error == 0) {
    check.found = absl::StrCat(kUserfaultfd, " can be opened");
    return check;
  }
  if (probe.try_userfaultfd() == 0) {
    check.found = "the system call works";
    return check;
  }
  check.result = Result::kFailed;
  check.found = absl::StrCat(kUserfaultfd, ": ", ErrorName(device_error),
                             "; the system call is not allowed either");
  check.mend =
      device_error == EACCES || device_error == EPERM
          ? "install -m644 deploy/udev/60-tdpd.rules /etc/udev/rules.d/ "
            "&& udevadm control --reload && udevadm trigger"
            "  # the package has done so; be in the group tdpd"
          : "sysctl -w vm.unprivileged_userfaultfd=1";
  return check;
}

HostCheck CheckMembarrier(const HostProbe& probe) {
  HostCheck check = {.name = "membarrier", .found = "can be used"};
  if (probe.has_membarrier()) return check;
  check.result = Result::kWarning;
  check.found = "is refused: walks are slow";
  check.mend = "allow the system call membarrier in the seccomp profile";
  return check;
}

HostCheck CheckOpenFiles(const HostProbe& probe) {
  const uint64_t limit = probe.max_open_files();
  HostCheck check = {.name = "open files", .found = LimitText(limit)};
  if (limit >= kMinOpenFiles) return check;
  check.result = Result::kWarning;
  check.mend = "ulimit -n 65536  # or LimitNOFILE=65536 in the unit";
  return check;
}

HostCheck CheckLockedMemory(const HostProbe& probe) {
  const uint64_t limit = probe.max_locked_bytes();
  return {.name = "locked memory",
          .found = absl::StrCat(limit == RLIM_INFINITY
                                    ? LimitText(limit)
                                    : absl::StrCat(limit >> 10, " KiB"),
                                "; tdpd locks none")};
}

HostCheck CheckHugePages(const HostProbe& probe) {
  HostCheck check = {.name = "hugetlb"};
  int64_t pages = 0;
  const auto text =
      probe.read_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
  if (text.has_value() &&
      absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &pages) &&
      pages > 0) {
    check.found = absl::StrCat(pages, " pages of 2 MiB");
    return check;
  }
  check.result = Result::kWarning;
  check.found = "no pages of 2 MiB: memslots with 2M host pages are refused";
  check.mend = "sysctl -w vm.nr_hugepages=512  # 1 GiB";
  return check;
}

HostCheck CheckSwap(const HostProbe& probe) {
  HostCheck check = {.name = "swap", .found = "none"};
  const std::vector<std::string> lines =
      absl::StrSplit(probe.read_file("/proc/swaps").value_or(""), '\n',
                     absl::SkipWhitespace());
  if (lines.size() <= 1) return check;  // a header alone
  check.result = Result::kWarning;
  check.found =
      "in use: the software hypervisor cannot note writes by harvesting";
  check.mend = "swapoff -a";
  return check;
}

int TryOpen(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

int TryUserfaultfd() {
  const long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return errno;
  close(static_cast<int>(fd));
  return 0;
}

bool HasMembarrier() {
  const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  return commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
}

template <auto kResource>
uint64_t Limit() {
  rlimit limit = {};
  getrlimit(kResource, &limit);
  return limit.rlim_cur;
}

}  // namespace

HostProbe SystemProbe() {
  return {.kernel_release =
              [] {
                utsname name = {};
                uname(&name);
                return std::string(name.release);
              },
          .try_open = TryOpen,
          .read_file = ReadFile,
          .try_userfaultfd = TryUserfaultfd,
          .has_membarrier = HasMembarrier,
          .max_open_files = Limit<RLIMIT_NOFILE>,
          .max_locked_bytes = Limit<RLIMIT_MEMLOCK>};
}

std::vector<HostCheck> CheckHost(const HostProbe& probe) {
  return {CheckKernel(probe),    CheckUserfaultfd(probe),
          CheckKvm(probe),       CheckMembarrier(probe),
          CheckOpenFiles(probe), CheckLockedMemory(probe),
          CheckHugePages(probe), CheckSwap(probe)};
}

}  // namespace tdp::client
