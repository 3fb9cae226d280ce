// The command line of a daemon whose flags are Abseil flags.
//
// Abseil's own parser ends the process with status 1 whatever is wrong, --help
// included; this one tells help, version and mistakes apart, and its help shows
// the flags of one file only: the program's.

#ifndef SERVER_BASE_COMMAND_LINE_H_
#define SERVER_BASE_COMMAND_LINE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

enum class CommandLineAction { kRun, kShowHelp, kShowVersion };

// Sets the flags that are defined in files whose name ends with `file`, e.g.
// "server/main.cc", from the arguments after argv[0]: --flag=value,
// --flag value, --flag and --noflag. The error of a bad argument names it.
absl::StatusOr<CommandLineAction> ParseCommandLine(absl::string_view file,
                                                   int argc,
                                                   const char* const* argv);

// One paragraph for each of these flags, by name.
std::string DescribeFlags(absl::string_view file);

}  // namespace tdp::server

#endif  // SERVER_BASE_COMMAND_LINE_H_
