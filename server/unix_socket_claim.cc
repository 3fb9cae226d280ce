#include "server/unix_socket_claim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp::server {
namespace {

constexpr mode_t kSocketMode = 0660;
constexpr mode_t kFolderMode = 0755;

absl::Status TakenError(absl::string_view path, absl::string_view why) {
  return MakeError(ErrorReason::kResourceExists,
                   absl::StrCat("cannot listen on unix:", path, ": ", why),
                   {{"path", std::string(path)}});
}

absl::Status HostError(absl::string_view path, absl::string_view what,
                       int error_number) {
  return InternalError(
      absl::StrCat("cannot listen on unix:", path, ": ", what, ": ",
                   strerror(error_number)),
      {{"path", std::string(path)}, {"errno", absl::StrCat(error_number)}});
}

// Creates the last folder of the path, if only that one is missing.
void MakeFolderOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos || slash == 0) return;
  // Whatever goes wrong, opening the lock tells.
  [[maybe_unused]] const int result =
      mkdir(std::string(path.substr(0, slash)).c_str(), kFolderMode);
}

// Opens and locks `lock_path`.
absl::StatusOr<int> Lock(absl::string_view path, const std::string& lock_path) {
  while (true) {
    const int fd = open(lock_path.c_str(),
                        O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
      return HostError(path, absl::StrCat("opening ", lock_path), errno);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      close(fd);
      if (error == EINTR) continue;
      if (error == EWOULDBLOCK) {
        return TakenError(path,
                          "another daemon runs there; stop it or choose "
                          "another path");
      }
      return HostError(path, absl::StrCat("locking ", lock_path), error);
    }
    // The daemon that held the lock removes the file before it lets go of it:
    // a lock on a file that is no longer there guards nothing.
    struct stat locked;
    struct stat there;
    if (fstat(fd, &locked) == 0 && stat(lock_path.c_str(), &there) == 0 &&
        locked.st_ino == there.st_ino && locked.st_dev == there.st_dev) {
      return fd;
    }
    close(fd);
  }
}

// Removes a socket that nobody listens on.
absl::Status RemoveStale(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return HostError(path, "looking at it", errno);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return TakenError(path,
                      "there is something that is not a socket; remove it or "
                      "choose another path");
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return HostError(path, "creating a socket", errno);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(),
         std::min(path.size(), sizeof(address.sun_path) - 1));
  const int result =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  close(fd);
  if (result == 0 || error == EAGAIN) {
    return TakenError(path,
                      "a process listens there already; stop it or choose "
                      "another path");
  }
  if (error == ENOENT) return absl::OkStatus();
  if (error != ECONNREFUSED) return HostError(path, "connecting to it", error);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return HostError(path, "removing the socket of a daemon that is gone",
                     errno);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnixSocketClaim>> UnixSocketClaim::Take(
    absl::string_view path) {
  MakeFolderOf(path);
  const std::string lock_path = absl::StrCat(path, ".lock");
  const absl::StatusOr<int> fd = Lock(path, lock_path);
  if (!fd.ok()) return fd.status();
  const absl::Status removed = RemoveStale(std::string(path));
  if (!removed.ok()) {
    unlink(lock_path.c_str());
    close(*fd);
    return removed;
  }
  return std::unique_ptr<UnixSocketClaim>(new UnixSocketClaim(path, *fd));
}

UnixSocketClaim::UnixSocketClaim(absl::string_view path, int lock_fd)
    : path_(path), lock_path_(absl::StrCat(path, ".lock")), lock_fd_(lock_fd) {}

UnixSocketClaim::~UnixSocketClaim() {
  // The lock goes last: until then nobody else puts a socket there.
  unlink(path_.c_str());
  unlink(lock_path_.c_str());
  close(lock_fd_);
}

absl::Status UnixSocketClaim::SetAccess(std::optional<gid_t> group) const {
  constexpr uid_t kSameOwner = static_cast<uid_t>(-1);
  if (group.has_value() && chown(path_.c_str(), kSameOwner, *group) != 0) {
    return HostError(path_, "giving it to the group of --socket_group", errno);
  }
  if (chmod(path_.c_str(), kSocketMode) == 0) return absl::OkStatus();
  return HostError(path_, "setting its mode", errno);
}

}  // namespace tdp::server
