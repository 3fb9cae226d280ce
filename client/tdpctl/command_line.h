// The whole of tdpctl but main(): parses the arguments, makes the calls and
// prints.
//
// Thread safety: one thread.

#ifndef CLIENT_TDPCTL_COMMAND_LINE_H_
#define CLIENT_TDPCTL_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "client/tdpctl/session.h"

namespace tdp::client {

// Returns the exit code: 0, 1 for an error of the daemon or of reaching it,
// 2 for arguments that make no sense. `args` leaves out the program's name.
int RunTdpctl(std::vector<std::string> args, Io io);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_COMMAND_LINE_H_
