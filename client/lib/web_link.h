// The link to the daemon's web page, made of its address and its token.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_WEB_LINK_H_
#define CLIENT_LIB_WEB_LINK_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::client {

// As the daemon's --http, with a port that can be connected to: HOST:PORT.
absl::StatusOr<std::string> ParseHttpAddress(absl::string_view text);

// The token in the daemon's --web_token_file. An error says how to mend it, and
// never what is in the file.
absl::StatusOr<std::string> ReadWebToken(const std::string& path);

// The token stands behind the #, which browsers send to nobody.
std::string WebLink(absl::string_view http_address, absl::string_view token);

}  // namespace tdp::client

#endif  // CLIENT_LIB_WEB_LINK_H_
