// HostCalls: the system calls of this folder that can fail half-way, one
// method each, so that a test can make the n-th one fail.
//
// Thread safety: all methods, from any thread. Stateless.

#ifndef ENGINE_MEMORY_HOST_CALLS_H_
#define ENGINE_MEMORY_HOST_CALLS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "engine/base/types.h"
#include "engine/memory/userfaultfd.h"

namespace tdp {

// Each method is the system call of its name, without retries. Those that
// return int return 0 or an errno.
class HostCalls {
 public:
  virtual ~HostCalls() = default;

  virtual int Fallocate(int fd, int mode, uint64_t offset, uint64_t bytes);
  virtual int Madvise(Hva start, uint64_t bytes, int advice);
  virtual int Mprotect(Hva start, uint64_t bytes, int protection);
  // As pread(2) and pwrite(2): bytes, or -1 with errno.
  virtual ssize_t Pread(int fd, void* buffer, size_t bytes, uint64_t offset);
  // As Pread(), but fails with EAGAIN where it would wait for a disk.
  virtual ssize_t PreadNoWait(int fd, void* buffer, size_t bytes,
                              uint64_t offset);
  virtual ssize_t Pwrite(int fd, const void* data, size_t bytes,
                         uint64_t offset);
  virtual ContinueResult Continue(const Userfaultfd& userfaultfd, Hva start,
                                  uint64_t bytes, uint64_t mode);
  virtual int WriteProtect(const Userfaultfd& userfaultfd, Hva start,
                           uint64_t bytes, uint64_t mode);
};

// Reads or writes until done, the end of the file or an error; goes on after
// EINTR and after less than asked. `done` is how much was moved. Returns 0 or
// an errno.
int ReadFully(HostCalls& calls, int fd, void* buffer, size_t bytes,
              uint64_t offset, size_t* done);
int WriteFully(HostCalls& calls, int fd, const void* data, size_t bytes,
               uint64_t offset, size_t* done);

}  // namespace tdp

#endif  // ENGINE_MEMORY_HOST_CALLS_H_
