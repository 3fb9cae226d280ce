// Paths of image files, as the API takes them: relative to the daemon's image
// directory and never leaving it by their text. The engine opens them so that
// no symbolic link leads out either.

#ifndef SERVER_CONVERT_IMAGE_PATH_H_
#define SERVER_CONVERT_IMAGE_PATH_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

absl::Status CheckImagePath(absl::string_view field, absl::string_view path);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_IMAGE_PATH_H_
