#include "engine/memory/host_calls.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

namespace tdp {
namespace {

void* PointerOf(Hva address) {
  return reinterpret_cast<void*>(address.value());  // NOLINT: an address
}

}  // namespace

int HostCalls::Fallocate(int fd, int mode, uint64_t offset, uint64_t bytes) {
  return fallocate(fd, mode, static_cast<off_t>(offset),
                   static_cast<off_t>(bytes)) == 0
             ? 0
             : errno;
}

int HostCalls::Madvise(Hva start, uint64_t bytes, int advice) {
  return madvise(PointerOf(start), bytes, advice) == 0 ? 0 : errno;
}

int HostCalls::Mprotect(Hva start, uint64_t bytes, int protection) {
  return mprotect(PointerOf(start), bytes, protection) == 0 ? 0 : errno;
}

ssize_t HostCalls::Pread(int fd, void* buffer, size_t bytes, uint64_t offset) {
  return pread(fd, buffer, bytes, static_cast<off_t>(offset));
}

ssize_t HostCalls::PreadNoWait(int fd, void* buffer, size_t bytes,
                               uint64_t offset) {
  const iovec part = {.iov_base = buffer, .iov_len = bytes};
  return preadv2(fd, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
}

ssize_t HostCalls::Pwrite(int fd, const void* data, size_t bytes,
                          uint64_t offset) {
  return pwrite(fd, data, bytes, static_cast<off_t>(offset));
}

ContinueResult HostCalls::Continue(const Userfaultfd& userfaultfd, Hva start,
                                   uint64_t bytes, uint64_t mode) {
  return userfaultfd.Continue(start, bytes, mode);
}

int HostCalls::WriteProtect(const Userfaultfd& userfaultfd, Hva start,
                            uint64_t bytes, uint64_t mode) {
  return userfaultfd.WriteProtect(start, bytes, mode);
}

int ReadFully(HostCalls& calls, int fd, void* buffer, size_t bytes,
              uint64_t offset, size_t* done) {
  *done = 0;
  while (*done < bytes) {
    const ssize_t got = calls.Pread(fd, static_cast<char*>(buffer) + *done,
                                    bytes - *done, offset + *done);
    if (got == 0) break;
    if (got > 0) {
      *done += static_cast<size_t>(got);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int WriteFully(HostCalls& calls, int fd, const void* data, size_t bytes,
               uint64_t offset, size_t* done) {
  *done = 0;
  while (*done < bytes) {
    const ssize_t put = calls.Pwrite(fd, static_cast<const char*>(data) + *done,
                                     bytes - *done, offset + *done);
    if (put == 0) return ENOSPC;
    if (put > 0) {
      *done += static_cast<size_t>(put);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace tdp
