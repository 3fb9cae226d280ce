// Examples of every command: what --help and the man page show.
//
// Thread safety: free function.

#ifndef CLIENT_TDPCTL_EXAMPLES_H_
#define CLIENT_TDPCTL_EXAMPLES_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tdp::client {

struct Example {
  // The command, e.g. "vm create".
  absl::string_view command;
  // What follows it on the command line.
  absl::string_view arguments;
  absl::string_view meaning;
};

// By command; one or more for each.
absl::Span<const Example> AllExamples();

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_EXAMPLES_H_
