#include "engine/memory/memory_test_util.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tdp {

ErrorReason ReasonOf(const absl::Status& status) {
  return DetailOf(status).value_or(ErrorDetail{}).reason;
}

std::string MetadataOf(const absl::Status& status, absl::string_view key) {
  for (const auto& [name, value] :
       DetailOf(status).value_or(ErrorDetail{}).metadata) {
    if (name == key) return value;
  }
  return "";
}

TempDir::TempDir() {
  char path[] = "/tmp/tdpd-memory-XXXXXX";
  if (mkdtemp(path) == nullptr) abort();
  path_ = path;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::Join(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

void TempDir::Write(absl::string_view name, absl::string_view bytes) const {
  std::ofstream file(Join(name), std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) abort();
}

std::string PatternFrames(uint64_t frames) {
  std::string bytes;
  for (uint64_t i = 0; i < frames; ++i) {
    bytes.append(kPageSize, static_cast<char>('a' + i % 26));
  }
  return bytes;
}

int FakeHostCalls::Fallocate(int fd, int mode, uint64_t offset,
                             uint64_t bytes) {
  int error = 0;
  if (on_fallocate && on_fallocate(mode, offset, bytes, &error)) return error;
  return HostCalls::Fallocate(fd, mode, offset, bytes);
}

int FakeHostCalls::Madvise(Hva start, uint64_t bytes, int advice) {
  int error = 0;
  if (on_madvise && on_madvise(advice, &error)) return error;
  return HostCalls::Madvise(start, bytes, advice);
}

int FakeHostCalls::Mprotect(Hva start, uint64_t bytes, int protection) {
  int error = 0;
  if (on_mprotect && on_mprotect(protection, &error)) return error;
  return HostCalls::Mprotect(start, bytes, protection);
}

ssize_t FakeHostCalls::Pread(int fd, void* buffer, size_t bytes,
                             uint64_t offset) {
  ssize_t result = 0;
  if (on_pread && on_pread(offset, bytes, &result)) {
    if (result <= 0) return result;
    bytes = static_cast<size_t>(result);  // the hook asks for less
  }
  return HostCalls::Pread(fd, buffer, bytes, offset);
}

ssize_t FakeHostCalls::PreadNoWait(int fd, void* buffer, size_t bytes,
                                   uint64_t offset) {
  ssize_t result = 0;
  if (on_pread_no_wait && on_pread_no_wait(offset, bytes, &result)) {
    return result;
  }
  return HostCalls::PreadNoWait(fd, buffer, bytes, offset);
}

ssize_t FakeHostCalls::Pwrite(int fd, const void* data, size_t bytes,
                              uint64_t offset) {
  ssize_t result = 0;
  if (on_pwrite && on_pwrite(offset, bytes, &result)) {
    if (result <= 0) return result;
    bytes = static_cast<size_t>(result);
  }
  return HostCalls::Pwrite(fd, data, bytes, offset);
}

ContinueResult FakeHostCalls::Continue(const Userfaultfd& userfaultfd,
                                       Hva start, uint64_t bytes,
                                       uint64_t mode) {
  ContinueResult result;
  if (on_continue && on_continue(start, bytes, &result)) return result;
  return HostCalls::Continue(userfaultfd, start, bytes, mode);
}

int FakeHostCalls::WriteProtect(const Userfaultfd& userfaultfd, Hva start,
                                uint64_t bytes, uint64_t mode) {
  int error = 0;
  if (on_write_protect && on_write_protect(mode, &error)) return error;
  return HostCalls::WriteProtect(userfaultfd, start, bytes, mode);
}

Runner::Runner(std::function<void()> function)
    : thread_([this, function = std::move(function)] {
        thread_id_.store(static_cast<pid_t>(syscall(SYS_gettid)));
        thread_id_.notify_all();
        function();
        done_.store(true, std::memory_order_release);
      }) {}

void Runner::Join() {
  if (thread_.joinable()) thread_.join();
}

pid_t Runner::thread_id() const {
  thread_id_.wait(0);
  return thread_id_.load();
}

void Runner::WaitUntilAsleep() const {
  const std::string path =
      absl::StrCat("/proc/self/task/", thread_id(), "/stat");
  while (!done()) {
    // "TID (name) STATE ..."
    std::string line;
    std::getline(std::ifstream(path), line);
    const size_t name_end = line.rfind(')');
    if (name_end != std::string::npos && name_end + 2 < line.size() &&
        line[name_end + 2] == 'S') {
      return;
    }
    std::this_thread::yield();
  }
}

volatile char* WindowByte(const Memslot& memslot, Gpa gpa) {
  const Hva address =
      memslot.window_hva() + (gpa - GpaOf(memslot.range().start));
  return reinterpret_cast<volatile char*>(address.value());
}

FaultEvent NextFault(Memslot& memslot) {
  FaultEvent event;
  while (true) {
    pollfd poll_fd = {memslot.uffd(), POLLIN, 0};
    if (poll(&poll_fd, 1, -1) < 0 && errno != EINTR) abort();
    const absl::StatusOr<size_t> count =
        memslot.ReadFaults(absl::MakeSpan(&event, 1));
    if (!count.ok()) abort();
    if (*count == 1) return event;
  }
}

int KernelRead(const Memslot& memslot, Gpa gpa) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) abort();
  const ssize_t result =
      write(pipe_fds[1], const_cast<char*>(WindowByte(memslot, gpa)), 1);
  const int error = result == 1 ? 0 : errno;
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  return error;
}

}  // namespace tdp
