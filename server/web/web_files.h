// The files of server/web/page, which the build puts into the binary.
//
// Thread safety: constants.

#ifndef SERVER_WEB_WEB_FILES_H_
#define SERVER_WEB_WEB_FILES_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tdp::server {

struct WebFile {
  absl::string_view path;  // "/app.js"; "/" for index.html
  absl::string_view content_type;
  absl::string_view bytes;
};

absl::Span<const WebFile> WebFiles();

}  // namespace tdp::server

#endif  // SERVER_WEB_WEB_FILES_H_
