// tdpbench: load on a running daemon. Walks random frames of a VM, one call
// after the other on each connection, and shows calls a second and latencies.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/target.h"
#include "client/tdpbench/load.h"

namespace tdp::client {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;

struct Arguments {
  Target target;
  std::string vm;
  uint64_t frames = 1 << 14;
  double seconds = 10;
  double warm_up_seconds = 1;
  int connections = 1;
  bool json = false;
};

int Run(const Arguments& arguments) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < arguments.connections; ++i) {
    auto client = Client::Create(arguments.target, std::nullopt);
    if (!client.ok()) {
      std::cerr << "tdpbench: " << client.status().message() << "\n";
      return kExitUsage;
    }
    clients.push_back(*std::move(client));
  }
  const LoadOptions options = {
      .worker_count = arguments.connections,
      .warm_up = absl::Seconds(arguments.warm_up_seconds),
      .duration = absl::Seconds(arguments.seconds)};
  const LoadReport report =
      RunLoad(options, [&](int worker, int64_t) -> absl::Status {
        thread_local std::minstd_rand random(static_cast<unsigned>(worker));
        v1::WalkGfnRequest request;
        request.set_vm("vms/" + arguments.vm);
        request.set_gfn(random() % arguments.frames);
        return clients[static_cast<size_t>(worker)]->WalkGfn(request).status();
      });
  std::cout << (arguments.json ? LoadJson(report) : LoadText(report));
  if (report.error_count == 0) return 0;
  std::cerr << "tdpbench: " << ErrorText(report.first_error) << "\n";
  return kExitError;
}

}  // namespace
}  // namespace tdp::client

int main(int argc, char** argv) {
  // gRPC's own log says nothing that the error does not.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  tdp::client::Arguments arguments;
  CLI::App app{
      "Walks random frames of a VM and shows the latency of the calls."};
  app.add_option("vm", arguments.vm, "The VM.")->required();
  app.add_option("--target", arguments.target.address,
                 "The daemon: unix:PATH or HOST:PORT.")
      ->envname("TDPD_TARGET")
      ->capture_default_str();
  app.add_flag("--insecure", arguments.target.insecure,
               "Without TLS; for loopback addresses.");
  app.add_option("--frames", arguments.frames, "Walk frames below this one.")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "How long to measure.")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--warm-up", arguments.warm_up_seconds, "Seconds before that.")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--connections", arguments.connections,
                 "Connections, with one call in flight on each.")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "Write one JSON object.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : tdp::client::kExitUsage;
  }
  return tdp::client::Run(arguments);
}
