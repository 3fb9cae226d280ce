#include "client/lib/web_link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

// As the daemon has them.
constexpr size_t kMinTokenChars = 32;
constexpr size_t kMaxTokenChars = 256;

absl::Status OpenError(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(absl::StrCat(
          path,
          " does not exist: the web page is off; start tdpd with "
          "--http=127.0.0.1:9464 --web, or name its --web_token_file with "
          "--token-file"));
    case EACCES:
      return absl::PermissionDeniedError(absl::StrCat(
          path, " can be read by tdpd's user and by root only: try sudo"));
    default:
      return absl::UnknownError(
          absl::StrCat(path, " cannot be opened: ", strerror(error)));
  }
}

bool IsUrlSafe(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_';
  });
}

}  // namespace

absl::StatusOr<std::string> ParseHttpAddress(absl::string_view text) {
  const size_t colon = text.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      text.find_first_of("/@#?") != absl::string_view::npos ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 1 ||
      port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not HOST:PORT"));
  }
  return std::string(text);
}

absl::StatusOr<std::string> ReadWebToken(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return OpenError(path, errno);
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat info;
  if (fstat(fd, &info) != 0) return OpenError(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is no regular file"));
  }
  if ((info.st_mode & 07777) != 0600) {
    return absl::FailedPreconditionError(
        absl::StrCat(path,
                     " must have mode 0600, or others can read the token "
                     "and tdpd refuses it: chmod 600 ",
                     path));
  }
  char buffer[kMaxTokenChars + 2];
  const ssize_t size = read(fd, buffer, sizeof(buffer));
  if (size < 0) return OpenError(path, errno);
  absl::string_view token(buffer, static_cast<size_t>(size));
  absl::ConsumeSuffix(&token, "\n");
  if (token.size() < kMinTokenChars || token.size() > kMaxTokenChars ||
      !IsUrlSafe(token)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        " holds no token: remove it and start tdpd again, which makes "
        "one"));
  }
  return std::string(token);
}

std::string WebLink(absl::string_view http_address, absl::string_view token) {
  return absl::StrCat("http://", http_address, "/#token=", token);
}

}  // namespace tdp::client
