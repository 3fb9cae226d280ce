// The system calls that KVM is used through: the seam where tests put a fake
// kernel.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_KVM_KVM_SYSTEM_CALLS_H_
#define ENGINE_KVM_KVM_SYSTEM_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace tdp {

class KvmSystemCalls {
 public:
  virtual ~KvmSystemCalls() = default;

  // Opens a file for reading and writing. The descriptor, or -errno.
  virtual int Open(const char* path) = 0;
  // The first line of a small file, without its newline; empty if there is
  // none.
  virtual std::string ReadLine(const char* path) = 0;
  // What ioctl(2) returns, or -errno. `argument` is an integer or a pointer, as
  // `request` wants it.
  virtual int Ioctl(int fd, uint64_t request, uintptr_t argument) = 0;
  // Maps `size` bytes of `fd`, shared, readable and writable. nullptr on
  // failure, with the errno in `*error`.
  virtual void* Map(int fd, size_t size, int* error) = 0;
  virtual void Unmap(void* address, size_t size) = 0;
  virtual void Close(int fd) = 0;
};

// The kernel's own.
std::shared_ptr<KvmSystemCalls> MakeHostKvmSystemCalls();

// A descriptor that closes itself.
class KvmFd {
 public:
  KvmFd(std::shared_ptr<KvmSystemCalls> calls, int fd)
      : calls_(std::move(calls)), fd_(fd) {}
  KvmFd(KvmFd&& other) noexcept
      : calls_(std::move(other.calls_)), fd_(other.fd_) {
    other.fd_ = -1;
  }
  KvmFd& operator=(KvmFd&&) = delete;
  ~KvmFd() {
    if (fd_ >= 0) calls_->Close(fd_);
  }

  int Ioctl(uint64_t request, uintptr_t argument = 0) const {
    return calls_->Ioctl(fd_, request, argument);
  }
  int Ioctl(uint64_t request, const void* argument) const {
    return Ioctl(request, reinterpret_cast<uintptr_t>(argument));
  }
  const std::shared_ptr<KvmSystemCalls>& calls() const { return calls_; }
  int get() const { return fd_; }

 private:
  std::shared_ptr<KvmSystemCalls> calls_;
  int fd_;
};

}  // namespace tdp

#endif  // ENGINE_KVM_KVM_SYSTEM_CALLS_H_
