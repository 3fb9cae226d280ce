// RunTdpbench: the program without its main(), so that tests can run it.
//
// Thread safety: one call at a time.

#ifndef CLIENT_TDPBENCH_COMMAND_LINE_H_
#define CLIENT_TDPBENCH_COMMAND_LINE_H_

#include <ostream>
#include <string>
#include <vector>

namespace tdp::client {

// Runs with these arguments, the program's name not among them. Returns the
// exit status: 0; 1 if a call failed and no error rate was allowed; 2 for
// arguments that cannot be meant; 3 if a threshold is broken.
int RunTdpbench(std::vector<std::string> arguments, std::ostream& out,
                std::ostream& err);

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_COMMAND_LINE_H_
