// tdpctl: the command line of tdpd.

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/tdpctl/command_line.h"

int main(int argc, char** argv) {
  // gRPC's own log says nothing that the error does not.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  std::ios::sync_with_stdio(false);
  return tdp::client::RunTdpctl(std::vector<std::string>(argv + 1, argv + argc),
                                {std::cin, std::cout, std::cerr});
}
