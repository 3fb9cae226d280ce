// The manual page, from the commands themselves.

#ifndef CLIENT_TDPCTL_MAN_PAGE_H_
#define CLIENT_TDPCTL_MAN_PAGE_H_

#include <string>

#include "absl/strings/string_view.h"
#include "client/tdpctl/command_doc.h"

namespace tdp::client {

// tdpctl(1) in man(7) macros. `notes` goes below the commands, line by line.
std::string ManPage(const CommandDoc& root, absl::string_view notes);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_MAN_PAGE_H_
