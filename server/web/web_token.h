// WebToken: the secret that whoever reads the web page's data must show.
//
// It lives in a file that only the daemon's user and root can read: who can
// read it may see what the page shows. It never travels in a URL that is sent,
// and is never logged.
//
// Thread safety: a value; constant.

#ifndef SERVER_WEB_WEB_TOKEN_H_
#define SERVER_WEB_WEB_TOKEN_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

inline constexpr size_t kMinWebTokenChars = 32;
inline constexpr size_t kMaxWebTokenChars = 256;

class WebToken {
 public:
  // Reads the token of `path`, or makes the file with a new one of 256 random
  // bits. A file that exists must be a regular one of this process's user, of
  // mode 0600, with one line of kMinWebTokenChars to kMaxWebTokenChars
  // URL-safe characters. INVALID_ARGUMENT says what is wrong, never what is
  // in it.
  static absl::StatusOr<WebToken> Open(const std::string& path);

  // Whether `authorization`, the value of that header, shows the token. Takes
  // as long whatever part of it is right.
  bool IsShownBy(absl::string_view authorization) const;

 private:
  explicit WebToken(std::string token) : token_(std::move(token)) {}

  std::string token_;
};

}  // namespace tdp::server

#endif  // SERVER_WEB_WEB_TOKEN_H_
