// What the tests of this folder share: a folder of their own, host calls that
// fail on demand, and threads that touch a window as a vCPU does.
//
// Thread safety: FakeHostCalls: the hooks are set before the calls are shared.
// The others belong to one thread.

#ifndef ENGINE_MEMORY_MEMORY_TEST_UTIL_H_
#define ENGINE_MEMORY_MEMORY_TEST_UTIL_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/errors.h"
#include "engine/memory/host_calls.h"
#include "engine/memory/memslot.h"

namespace tdp {

// The reason of an error of ours; kInternal's number for any other status.
ErrorReason ReasonOf(const absl::Status& status);
// The value of a metadata key; empty if there is none.
std::string MetadataOf(const absl::Status& status, absl::string_view key);

// A folder below /tmp that goes away with its files.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }
  std::string Join(absl::string_view name) const;
  void Write(absl::string_view name, absl::string_view bytes) const;

 private:
  std::string path_;
};

// `frames` frames, the i-th filled with the character 'a' + i % 26.
std::string PatternFrames(uint64_t frames);

// The real calls, unless a hook answers first. A hook returns true if it has
// answered, through its last argument.
class FakeHostCalls : public HostCalls {
 public:
  // (mode, offset, bytes, errno)
  std::function<bool(int, uint64_t, uint64_t, int*)> on_fallocate;
  // (advice, errno)
  std::function<bool(int, int*)> on_madvise;
  // (protection, errno)
  std::function<bool(int, int*)> on_mprotect;
  // (offset, bytes, result; errno is set by the hook)
  std::function<bool(uint64_t, size_t, ssize_t*)> on_pread;
  std::function<bool(uint64_t, size_t, ssize_t*)> on_pread_no_wait;
  std::function<bool(uint64_t, size_t, ssize_t*)> on_pwrite;
  std::function<bool(Hva, uint64_t, ContinueResult*)> on_continue;
  // (mode, errno)
  std::function<bool(uint64_t, int*)> on_write_protect;

  int Fallocate(int fd, int mode, uint64_t offset, uint64_t bytes) override;
  int Madvise(Hva start, uint64_t bytes, int advice) override;
  int Mprotect(Hva start, uint64_t bytes, int protection) override;
  ssize_t Pread(int fd, void* buffer, size_t bytes, uint64_t offset) override;
  ssize_t PreadNoWait(int fd, void* buffer, size_t bytes,
                      uint64_t offset) override;
  ssize_t Pwrite(int fd, const void* data, size_t bytes,
                 uint64_t offset) override;
  ContinueResult Continue(const Userfaultfd& userfaultfd, Hva start,
                          uint64_t bytes, uint64_t mode) override;
  int WriteProtect(const Userfaultfd& userfaultfd, Hva start, uint64_t bytes,
                   uint64_t mode) override;
};

// Runs a function on a thread of its own.
class Runner {
 public:
  explicit Runner(std::function<void()> function);
  ~Runner() { Join(); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void Join();
  bool done() const { return done_.load(std::memory_order_acquire); }
  // Waits until the thread has one.
  pid_t thread_id() const;
  // Waits until the thread sleeps in the kernel, or is done.
  void WaitUntilAsleep() const;

 private:
  std::atomic<bool> done_{false};
  std::atomic<pid_t> thread_id_{0};
  std::thread thread_;
};

// The byte of the window at a guest physical address. Touching it may sleep.
volatile char* WindowByte(const Memslot& memslot, Gpa gpa);

// Waits for the next fault.
FaultEvent NextFault(Memslot& memslot);

// Reads a byte of the window from the kernel, as KVM does. Returns 0 or an
// errno; EFAULT if the access was refused.
int KernelRead(const Memslot& memslot, Gpa gpa);

}  // namespace tdp

#endif  // ENGINE_MEMORY_MEMORY_TEST_UTIL_H_
