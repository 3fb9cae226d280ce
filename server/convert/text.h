// Text that came from a client, made fit to be shown in an error.
//
// An error travels in HTTP/2 headers, which hold some 8 KiB, and ends up on
// somebody's terminal: what is shown is short, has no control characters and is
// valid UTF-8.

#ifndef SERVER_CONVERT_TEXT_H_
#define SERVER_CONVERT_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace tdp::server {

// `text` in quotes, escaped, cut after 64 bytes; "" for an empty text, so that
// an error says "empty".
std::string Shown(absl::string_view text);

// `text` cut to at most `max_bytes` bytes, never within a character, with "..."
// in place of what was cut. REQUIRES: max_bytes >= 3.
std::string Clipped(absl::string_view text, size_t max_bytes);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_TEXT_H_
