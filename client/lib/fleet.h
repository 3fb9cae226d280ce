// Several daemons behind one --target: a list, or a name of the cluster's DNS
// that stands for all of them.
//
// Thread safety: free functions.

#ifndef CLIENT_LIB_FLEET_H_
#define CLIENT_LIB_FLEET_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/lib/target.h"

namespace tdp::client {

// The addresses of a name, without ports: "10.0.0.7", "fd00::7".
using Resolver =
    std::function<absl::StatusOr<std::vector<std::string>>(const std::string&)>;

// Asks the system.
absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host);

// One target for each daemon. `target.address` is a comma-separated list of
// unix:PATH, HOST:PORT and dns:///HOST:PORT; the last stands for every address
// that HOST has, whose certificates must carry HOST unless tls_name says else.
absl::StatusOr<std::vector<Target>> ExpandTarget(
    const Target& target, const Resolver& resolve = ResolveHost);

}  // namespace tdp::client

#endif  // CLIENT_LIB_FLEET_H_
