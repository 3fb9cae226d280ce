// ScopedFd: a file descriptor that closes itself.
//
// Thread safety: a value.

#ifndef ENGINE_MEMORY_SCOPED_FD_H_
#define ENGINE_MEMORY_SCOPED_FD_H_

#include <unistd.h>

namespace tdp {

class ScopedFd {
 public:
  // Negative: none.
  explicit ScopedFd(int fd) : fd_(fd) {}
  ~ScopedFd() {
    if (fd_ >= 0) close(fd_);
  }
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_SCOPED_FD_H_
