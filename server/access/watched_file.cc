#include "server/access/watched_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"

namespace tdp::server {
namespace {

// Longer than any file system's clock ticks.
constexpr absl::Duration kUnsettled = absl::Seconds(3);

int64_t Nanos(const timespec& time) {
  return absl::ToUnixNanos(absl::TimeFromTimespec(time));
}

absl::Status Refused(absl::string_view why) {
  return MakeError(ErrorReason::kFieldInvalid, why);
}

}  // namespace

WatchedFile::Change WatchedFile::Check() {
  struct stat info;
  Stamp now;
  if (stat(path_.c_str(), &info) == 0) {
    now = {true,         info.st_dev,         info.st_ino,
           info.st_size, Nanos(info.st_mtim), Nanos(info.st_ctim)};
  }
  const bool is_new = !was_checked_ || !(now == stamp_);
  was_checked_ = true;
  stamp_ = now;
  if (is_new) return Change::kSure;
  const bool is_settled =
      !now.exists ||
      absl::Now() - absl::FromUnixNanos(now.changed) > kUnsettled;
  return is_settled ? Change::kNone : Change::kMaybe;
}

absl::StatusOr<FileContent> WatchedFile::Read() const {
  // A FIFO without a writer must not hold the caller.
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Refused(strerror(errno));
  const absl::Cleanup closer = [fd] { close(fd); };
  FileContent content;
  if (fstat(fd, &content.info) != 0) return Refused(strerror(errno));
  if (!S_ISREG(content.info.st_mode)) return Refused("it is no regular file");
  content.text.resize(max_bytes_ + 1);
  size_t size = 0;
  while (size < content.text.size()) {
    const ssize_t count =
        read(fd, content.text.data() + size, content.text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Refused(strerror(errno));
    if (count == 0) break;
    size += count;
  }
  if (size > static_cast<size_t>(max_bytes_)) {
    return Refused(absl::StrCat("it has more than ", max_bytes_, " bytes"));
  }
  content.text.resize(size);
  return content;
}

}  // namespace tdp::server
