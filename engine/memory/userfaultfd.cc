#include "engine/memory/userfaultfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "engine/base/errors.h"
#include "engine/memory/host_errors.h"
#include "engine/memory/userfaultfd_support.h"

namespace tdp {
namespace {

int Ioctl(int fd, unsigned long request, void* argument) {
  int rc;
  do {
    rc = ioctl(fd, request, argument);
  } while (rc < 0 && errno == EINTR);
  return rc < 0 ? errno : 0;
}

}  // namespace

UserfaultfdOpening OpenUserfaultfd(const UserfaultfdOptions& options) {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;
  UserfaultfdOpening opening;
  const int device =
      open(options.device_path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (device >= 0) {
    opening.fd = ioctl(device, USERFAULTFD_IOC_NEW, kFlags);
    opening.device_error = opening.fd < 0 ? errno : 0;
    close(device);
    if (opening.fd >= 0) {
      opening.way = UserfaultfdWay::kDevice;
      return opening;
    }
  } else {
    opening.device_error = errno;
  }
  if (!options.use_system_call) {
    opening.system_call_error = EPERM;
    return opening;
  }
  opening.fd = static_cast<int>(syscall(SYS_userfaultfd, kFlags));
  if (opening.fd >= 0) {
    opening.way = UserfaultfdWay::kSystemCall;
    return opening;
  }
  opening.system_call_error = errno;
  if (options.origin == FaultOrigin::kUserOnly) {
    opening.fd = static_cast<int>(
        syscall(SYS_userfaultfd, kFlags | UFFD_USER_MODE_ONLY));
    if (opening.fd >= 0) {
      opening.way = UserfaultfdWay::kSystemCallUserOnly;
    } else {
      opening.system_call_error = errno;
    }
  }
  return opening;
}

absl::StatusOr<Userfaultfd> Userfaultfd::Create(
    const UserfaultfdOptions& options) {
  const UserfaultfdOpening opening = OpenUserfaultfd(options);
  if (opening.fd < 0) {
    for (const int error : {opening.device_error, opening.system_call_error}) {
      if (error == EMFILE || error == ENFILE) return TooManyFilesError(error);
    }
    return UserfaultfdMissingError(DescribeUserfaultfd(opening, 0));
  }
  Userfaultfd userfaultfd(opening.fd);
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = kUserfaultfdFeatures;
  if (options.asynchronous_write_protection) {
    api.features |= kFeatureWriteProtectAsync;
  }
  const int error = Ioctl(opening.fd, UFFDIO_API, &api);
  // On success the kernel answers with everything that it can do.
  if (error == 0 && (api.features & kFeatureWriteProtectUnpopulated) != 0) {
    return userfaultfd;
  }
  if (error != 0 && error != EINVAL) {
    return HostCallError("ioctl(UFFDIO_API)", error);
  }
  const UserfaultfdSupport support = ProbeUserfaultfd(options);
  if (options.asynchronous_write_protection && support.Complete()) {
    return MakeError(
        ErrorReason::kCapabilityMissing,
        "the kernel lacks userfaultfd.write_protect_async, which harvesting "
        "writes needs here; boot Linux 6.7 or newer or use "
        "DIRTY_MODE_WRITE_PROTECT",
        {{"capability", "userfaultfd.write_protect_async"}});
  }
  return UserfaultfdMissingError(support);
}

Userfaultfd::Userfaultfd(Userfaultfd&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

Userfaultfd& Userfaultfd::operator=(Userfaultfd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Userfaultfd::~Userfaultfd() {
  if (fd_ >= 0) close(fd_);
}

int Userfaultfd::Register(Hva start, uint64_t bytes, uint64_t modes) const {
  uffdio_register argument = {};
  argument.range = {start.value(), bytes};
  argument.mode = modes;
  return Ioctl(fd_, UFFDIO_REGISTER, &argument);
}

int Userfaultfd::Unregister(Hva start, uint64_t bytes) const {
  uffdio_range range = {start.value(), bytes};
  return Ioctl(fd_, UFFDIO_UNREGISTER, &range);
}

int Userfaultfd::WriteProtect(Hva start, uint64_t bytes, uint64_t mode) const {
  uffdio_writeprotect argument = {};
  argument.range = {start.value(), bytes};
  argument.mode = mode;
  return Ioctl(fd_, UFFDIO_WRITEPROTECT, &argument);
}

int Userfaultfd::Wake(Hva start, uint64_t bytes) const {
  uffdio_range range = {start.value(), bytes};
  return Ioctl(fd_, UFFDIO_WAKE, &range);
}

ContinueResult Userfaultfd::Continue(Hva start, uint64_t bytes,
                                     uint64_t mode) const {
  uffdio_continue argument = {};
  argument.range = {start.value(), bytes};
  argument.mode = mode;
  ContinueResult result;
  result.error = Ioctl(fd_, UFFDIO_CONTINUE, &argument);
  result.mapped = argument.mapped;
  return result;
}

absl::StatusOr<size_t> Userfaultfd::ReadEvents(
    absl::Span<uffd_msg> messages) const {
  if (messages.empty()) return size_t{0};
  while (true) {
    const ssize_t bytes =
        read(fd_, messages.data(), messages.size() * sizeof(uffd_msg));
    if (bytes >= 0) return static_cast<size_t>(bytes) / sizeof(uffd_msg);
    if (errno == EAGAIN) return size_t{0};
    if (errno != EINTR) return HostCallError("read(userfaultfd)", errno);
  }
}

}  // namespace tdp
