#include "engine/testing/huge_page_pool.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace tdp {
namespace {

constexpr char kLockPath[] = "/tmp/tdpd-huge-page-pool.lock";
constexpr char kPoolPath[] =
    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
constexpr char kFreePath[] =
    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
constexpr int64_t kPageBytes = int64_t{2} << 20;

// -1 if the file cannot be read.
int64_t ReadNumber(const char* path) {
  int64_t value = -1;
  std::ifstream(path) >> value;
  return value;
}

bool WriteNumber(const char* path, int64_t value) {
  std::ofstream file(path);
  file << value;
  return static_cast<bool>(file.flush());
}

// A file that holds pages of the pool; -1 if it does not have them.
int TakePages(int64_t pages) {
  const int fd =
      memfd_create("tdpd-test-held", MFD_CLOEXEC | MFD_HUGETLB | 21u << 26);
  if (fd < 0) return -1;
  if (ftruncate(fd, pages * kPageBytes) == 0 &&
      fallocate(fd, 0, 0, pages * kPageBytes) == 0) {
    return fd;
  }
  close(fd);
  return -1;
}

}  // namespace

int64_t HugePagePool::Free() { return ReadNumber(kFreePath); }

HugePagePool::HugePagePool(int64_t free_pages)
    : lock_fd_(open(kLockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (lock_fd_ < 0 || flock(lock_fd_, LOCK_EX) != 0) {
    problem_ = absl::StrCat("no lock on ", kLockPath, ": ", strerror(errno));
    return;
  }
  const int64_t pages = ReadNumber(kPoolPath);
  const int64_t missing = free_pages - Free();
  if (pages < 0) {
    problem_ = "the kernel has no pool of 2M pages";
    return;
  }
  if (missing > 0) {
    if (!WriteNumber(kPoolPath, pages + missing)) {
      problem_ = absl::StrCat(kPoolPath, " cannot be written");
      return;
    }
    pages_before_ = pages;
  } else if (missing < 0) {
    surplus_fd_ = TakePages(-missing);
  }
  if (Free() != free_pages) {
    problem_ = absl::StrCat("the host has ", Free(), " free 2M pages, not ",
                            free_pages);
  }
}

HugePagePool::~HugePagePool() {
  LetGo();
  if (surplus_fd_ >= 0) close(surplus_fd_);
  if (pages_before_ >= 0) WriteNumber(kPoolPath, pages_before_);
  if (lock_fd_ >= 0) close(lock_fd_);
}

bool HugePagePool::Hold(int64_t pages) {
  LetGo();
  held_fd_ = TakePages(pages);
  return held_fd_ >= 0;
}

void HugePagePool::LetGo() {
  if (held_fd_ >= 0) close(held_fd_);
  held_fd_ = -1;
}

}  // namespace tdp
