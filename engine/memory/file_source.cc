#include "engine/memory/file_source.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "engine/memory/host_errors.h"

namespace tdp {
namespace {

constexpr absl::string_view kPathRule =
    "the relative path of a regular file below the image directory, without "
    "\"..\" and symbolic links";

constexpr int kMaxOpenTries = 100;

absl::Status OpenError(const FileSourceOptions& options, int error) {
  if (error == EMFILE || error == ENFILE) return TooManyFilesError(error);
  return MakeError(
      ErrorReason::kSourceFailed,
      absl::StrCat("the source file \"", absl::CEscape(options.path),
                   "\" cannot be opened: ", strerror(error), " (errno ", error,
                   "); let the daemon's user read it"),
      {{"path", absl::CEscape(options.path)},
       {"errno", absl::StrCat(error)},
       {"cause", strerror(error)}});
}

absl::Status PathError(const FileSourceOptions& options,
                       absl::string_view cause) {
  return FieldError(absl::StrCat(options.field, ".path"),
                    options.path.empty()
                        ? ""
                        : absl::StrCat("\"", absl::CEscape(options.path), "\""),
                    absl::StrCat(kPathRule, cause));
}

absl::Status CheckPath(const FileSourceOptions& options) {
  if (options.image_dir.empty()) {
    return FieldError(absl::StrCat(options.field, ".path"),
                      absl::StrCat("\"", absl::CEscape(options.path), "\""),
                      "unset: the daemon was started without --image_dir");
  }
  if (options.path.empty() || options.path[0] == '/' ||
      options.path.find('\0') != std::string::npos) {
    return PathError(options, "");
  }
  for (const absl::string_view part : absl::StrSplit(options.path, '/')) {
    if (part == "..") return PathError(options, "");
  }
  return absl::OkStatus();
}

// Returns a descriptor, or a negative errno. O_NONBLOCK: a FIFO must not hold
// the daemon up before it is refused.
int OpenBeneath(int directory, const std::string& path) {
  open_how how = {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  int error = 0;
  for (int tries = 0; tries < kMaxOpenTries; ++tries) {
    const int fd = static_cast<int>(
        syscall(SYS_openat2, directory, path.c_str(), &how, sizeof(how)));
    if (fd >= 0) return fd;
    error = errno;
    // EAGAIN: a rename on the host raced with the lookup.
    if (error != EINTR && error != EAGAIN) break;
  }
  return -error;
}

}  // namespace

absl::StatusOr<FileSource> FileSource::Open(const FileSourceOptions& options) {
  const absl::Status path_status = CheckPath(options);
  if (!path_status.ok()) return path_status;
  if (options.offset_bytes < 0 ||
      options.offset_bytes % static_cast<int64_t>(kPageSize) != 0) {
    return FieldError(absl::StrCat(options.field, ".offset_bytes"),
                      absl::StrCat(options.offset_bytes),
                      "a multiple of 4096, not negative");
  }
  const int directory =
      open(options.image_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return OpenError(options, errno);
  const int fd = OpenBeneath(directory, options.path);
  close(directory);
  if (fd < 0) {
    switch (-fd) {
      case ENOENT:
      case ENOTDIR:
        return PathError(options, "; no such file exists");
      case ELOOP:
      case EXDEV:
      case EISDIR:
      case ENXIO:  // a socket, or a device without a driver
      case ENAMETOOLONG:
        return PathError(options, absl::StrCat("; ", strerror(-fd)));
      default:
        return OpenError(options, -fd);
    }
  }
  struct stat status = {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return PathError(options, "; this is no regular file");
  }
  const int64_t size_bytes =
      std::max<int64_t>(0, int64_t{status.st_size} - options.offset_bytes);
  return FileSource(fd, options.path,
                    static_cast<uint64_t>(options.offset_bytes), size_bytes);
}

FileSource::FileSource(int fd, std::string path, uint64_t offset_bytes,
                       int64_t size_bytes)
    : fd_(fd),
      path_(std::move(path)),
      offset_bytes_(offset_bytes),
      size_bytes_(size_bytes) {}

FileSource::FileSource(FileSource&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      offset_bytes_(other.offset_bytes_),
      size_bytes_(other.size_bytes_) {}

FileSource& FileSource::operator=(FileSource&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(offset_bytes_, other.offset_bytes_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

FileSource::~FileSource() {
  if (fd_ >= 0) close(fd_);
}

absl::Status FileSource::Read(HostCalls& calls, uint64_t offset, Gpa gpa,
                              absl::Span<char> bytes,
                              size_t* done_bytes) const {
  *done_bytes = 0;
  int error = 0;
  // Past the largest offset that a file can have there is nothing to read.
  // None of the three terms can make the sum overflow 64 bits.
  if (offset_bytes_ + offset + bytes.size() <= uint64_t{INT64_MAX}) {
    error = ReadFully(calls, fd_, bytes.data(), bytes.size(),
                      offset_bytes_ + offset, done_bytes);
  }
  const uint64_t size = static_cast<uint64_t>(size_bytes_);
  const uint64_t held =
      std::min<uint64_t>(bytes.size(), size - std::min(size, offset));
  if (error == 0 && *done_bytes >= held) {
    memset(bytes.data() + *done_bytes, 0, bytes.size() - *done_bytes);
    *done_bytes = bytes.size();
    return absl::OkStatus();
  }
  const Gfn failed = GfnOf(gpa + *done_bytes);
  const std::string cause =
      error != 0
          ? strerror(error)
          : absl::StrCat("the file is shorter than the ", offset_bytes_ + size,
                         " bytes that it had when it was opened");
  return MakeError(
      ErrorReason::kSourceFailed,
      absl::StrCat("frame ", Hex(failed.value()), " cannot be loaded from \"",
                   absl::CEscape(path_), "\": ", cause, " (errno ", error,
                   "); repair the file or its disk and try again"),
      {{"gfn", Hex(failed.value())},
       {"path", absl::CEscape(path_)},
       {"errno", absl::StrCat(error)},
       {"cause", cause}});
}

bool FileSource::IsCached(HostCalls& calls, uint64_t offset) const {
  if (offset >= static_cast<uint64_t>(size_bytes_)) return true;
  char byte = 0;
  return calls.PreadNoWait(fd_, &byte, 1, offset_bytes_ + offset) >= 0;
}

}  // namespace tdp
