#include "server/web/web_token.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"

namespace tdp::server {
namespace {

constexpr size_t kRandomBytes = 32;
constexpr absl::string_view kScheme = "bearer ";

absl::Status FileError(const std::string& path, absl::string_view what) {
  return MakeError(ErrorReason::kFieldInvalid,
                   absl::StrCat("--web_token_file=", path, " ", what));
}

bool IsUrlSafe(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_';
  });
}

absl::StatusOr<std::string> ReadToken(const std::string& path, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return HostCallError("fstat()", errno);
  if (!S_ISREG(info.st_mode)) return FileError(path, "is no regular file");
  if (info.st_uid != geteuid()) {
    return FileError(path, "belongs to another user than the daemon's");
  }
  if ((info.st_mode & 07777) != 0600) {
    return FileError(path, "must have mode 0600: others could read the token");
  }
  // One more than the most, to notice what is too long.
  char buffer[kMaxWebTokenChars + 2];
  const ssize_t size = read(fd, buffer, sizeof(buffer));
  if (size < 0) return HostCallError("read()", errno);
  absl::string_view line(buffer, static_cast<size_t>(size));
  absl::ConsumeSuffix(&line, "\n");
  if (line.size() < kMinWebTokenChars || line.size() > kMaxWebTokenChars ||
      !IsUrlSafe(line)) {
    return FileError(
        path, absl::StrCat("must hold one line of ", kMinWebTokenChars, " to ",
                           kMaxWebTokenChars,
                           " letters, digits, - and _; without the file, the "
                           "daemon makes one"));
  }
  return std::string(line);
}

// Makes the file, unless there is one now. It gets its name when it is whole: a
// daemon that is killed meanwhile leaves none that the next one could not use.
absl::Status MakeTokenFile(const std::string& path) {
  const auto failed = [&path] {
    return FileError(path, absl::StrCat("cannot be made: ", strerror(errno)));
  };
  std::string random(kRandomBytes, '\0');
  if (getrandom(random.data(), random.size(), 0) !=
      static_cast<ssize_t>(random.size())) {
    return failed();
  }
  const std::string line = absl::WebSafeBase64Escape(random) + "\n";
  std::string draft = path + ".XXXXXX";
  const int fd = mkostemp(draft.data(), O_CLOEXEC);
  if (fd < 0) return failed();
  const absl::Cleanup remover = [&draft, fd] {
    unlink(draft.c_str());
    close(fd);
  };
  // The umask may have taken from it.
  if (fchmod(fd, 0600) != 0 || write(fd, line.data(), line.size()) !=
                                   static_cast<ssize_t>(line.size())) {
    return failed();
  }
  if (link(draft.c_str(), path.c_str()) != 0 && errno != EEXIST) {
    return failed();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WebToken> WebToken::Open(const std::string& path) {
  // Nobody else's link, and no pipe that nobody writes to.
  constexpr int kRead = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  int fd = open(path.c_str(), kRead);
  if (fd < 0 && errno == ENOENT) {
    TDP_RETURN_IF_ERROR(MakeTokenFile(path));
    fd = open(path.c_str(), kRead);
  }
  if (fd < 0) {
    return FileError(path, errno == ELOOP ? "is a symbolic link"
                                          : absl::StrCat("cannot be opened: ",
                                                         strerror(errno)));
  }
  const absl::Cleanup closer = [fd] { close(fd); };
  TDP_ASSIGN_OR_RETURN(std::string token, ReadToken(path, fd));
  return WebToken(std::move(token));
}

bool WebToken::IsShownBy(absl::string_view authorization) const {
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) return false;
  const absl::string_view shown = authorization.substr(kScheme.size());
  // How long a token is, is no secret.
  return shown.size() == token_.size() &&
         CRYPTO_memcmp(shown.data(), token_.data(), shown.size()) == 0;
}

}  // namespace tdp::server
