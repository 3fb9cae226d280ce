// tdpbench: load on a running daemon.

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/tdpbench/command_line.h"

int main(int argc, char** argv) {
  // gRPC's own log says nothing that the errors do not.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  return tdp::client::RunTdpbench(
      std::vector<std::string>(argv + 1, argv + argc), std::cout, std::cerr);
}
