#include "engine/memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/memory/host_errors.h"
#include "engine/memory/huge_pages.h"

namespace tdp {
namespace {

// Address space of a process, less what the daemon itself needs.
constexpr uint64_t kMaxBytes = uint64_t{1} << 46;

absl::Status NoRoomError(absl::string_view call, int error, uint64_t bytes) {
  if (error == EMFILE || error == ENFILE) return TooManyFilesError(error);
  if (error != ENOMEM && error != EFBIG && error != ENOSPC) {
    return HostCallError(call, error);
  }
  return MakeError(
      ErrorReason::kHostMemoryExhausted,
      absl::StrCat("the host has no room for a memslot of ", bytes, " bytes (",
                   call, ": ", strerror(error),
                   "); choose a smaller frame_count, delete memslots, or raise "
                   "vm.max_map_count and the daemon's address space limit"),
      {{"sizeBytes", absl::StrCat(bytes)},
       {"call", std::string(call)},
       {"errno", absl::StrCat(error)}});
}

// Maps the whole file; 0 with errno set on failure.
Hva MapWhole(int fd, uint64_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (start == MAP_FAILED) return Hva(0);
  return Hva(reinterpret_cast<uint64_t>(start));
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(
    absl::string_view name, uint64_t frame_count, HostCalls* calls,
    PageLevel page_level) {
  if (frame_count > kMaxBytes >> kPageShift) {
    return FieldError("memslot.frame_count", absl::StrCat(frame_count),
                      absl::StrCat("at most ", kMaxBytes >> kPageShift,
                                   ", what the daemon's address space holds"));
  }
  const uint64_t bytes = frame_count << kPageShift;
  const std::string label = absl::StrCat(kMemfdPrefix, name.substr(0, 200));
  const bool huge = page_level != PageLevel::k4K;
  const int fd =
      memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING |
                                      (huge ? kHugePageMemfdFlags : 0));
  if (fd < 0) {
    const bool file_limit = errno == EMFILE || errno == ENFILE;
    return huge && !file_limit ? HugePagesMissingError(errno)
                               : NoRoomError("memfd_create", errno, bytes);
  }
  // From here on the destructor cleans up.
  std::unique_ptr<GuestMemory> memory(
      new GuestMemory(calls, fd, frame_count, page_level));
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    return NoRoomError("ftruncate", errno, bytes);
  }
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return HostCallError("fcntl(F_ADD_SEALS)", errno);
  }
  memory->window_ = MapWhole(fd, bytes);
  if (memory->window_ == Hva(0)) return NoRoomError("mmap", errno, bytes);
  memory->alias_ = MapWhole(fd, bytes);
  if (memory->alias_ == Hva(0)) return NoRoomError("mmap", errno, bytes);
  for (const Hva start : {memory->window_, memory->alias_}) {
    for (const int advice : {MADV_NOHUGEPAGE, MADV_DONTFORK}) {
      const int error = calls->Madvise(start, bytes, advice);
      // EINVAL: a kernel without huge pages needs no advice against them.
      if (error == 0 || (error == EINVAL && advice == MADV_NOHUGEPAGE)) {
        continue;
      }
      return NoRoomError("madvise", error, bytes);
    }
  }
  if (huge) {
    const uint64_t pages = bytes >> memory->page_shift();
    const int error = memory->Allocate(0, pages);
    if (error != 0) {
      // First, so that the error tells what the pool has.
      memory.reset();
      return HugePagePoolError(pages, error);
    }
  }
  return memory;
}

GuestMemory::~GuestMemory() {
  for (const Hva start : {window_, alias_}) {
    if (start != Hva(0)) {
      munmap(reinterpret_cast<void*>(start.value()), size_bytes());
    }
  }
  close(fd_);
}

int GuestMemory::Allocate(uint64_t first, uint64_t count) {
  int error;
  // A pending signal interrupts it.
  do {
    error =
        calls_->Fallocate(fd_, 0, first << page_shift(), count << page_shift());
  } while (error == EINTR);
  return error;
}

int GuestMemory::PunchHole(uint64_t first, uint64_t count) {
  int error;
  do {
    error = calls_->Fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              first << page_shift(), count << page_shift());
  } while (error == EINTR);
  return error;
}

int GuestMemory::Read(uint64_t offset, absl::Span<char> bytes) {
  size_t done = 0;
  return ReadFully(*calls_, fd_, bytes.data(), bytes.size(), offset, &done);
}

int GuestMemory::Write(uint64_t offset, absl::Span<const char> bytes) {
  if (page_level_ != PageLevel::k4K) {
    // Such a file cannot be written to.
    memcpy(reinterpret_cast<char*>((alias_ + offset).value()), bytes.data(),
           bytes.size());
    return 0;
  }
  size_t done = 0;
  return WriteFully(*calls_, fd_, bytes.data(), bytes.size(), offset, &done);
}

absl::Span<char> GuestMemory::Alias(uint64_t first, uint64_t count) {
  const Hva start = alias_ + (first << page_shift());
  return {reinterpret_cast<char*>(start.value()), count << page_shift()};
}

absl::StatusOr<int64_t> GuestMemory::AllocatedBytes() const {
  struct stat status = {};
  if (fstat(fd_, &status) != 0) return HostCallError("fstat(memfd)", errno);
  return int64_t{status.st_blocks} * 512;
}

}  // namespace tdp
