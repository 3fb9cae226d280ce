// tdpctl: the command line of tdpd.

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/lib/terminal.h"
#include "client/tdpctl/command_line.h"

int main(int argc, char** argv) {
  // gRPC's own log says nothing that the error does not.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  std::ios::sync_with_stdio(false);
  return tdp::client::RunTdpctl(
      std::vector<std::string>(argv + 1, argv + argc),
      {.in = std::cin,
       .out = std::cout,
       .err = std::cerr,
       .out_terminal = tdp::client::TerminalOf(STDOUT_FILENO),
       .err_terminal = tdp::client::TerminalOf(STDERR_FILENO)});
}
