// Where the daemon listens, as given on the command line.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_TARGET_H_
#define CLIENT_LIB_TARGET_H_

#include <string>

#include "absl/status/status.h"

namespace tdp::client {

inline constexpr char kDefaultTarget[] = "unix:/run/tdpd/tdpd.sock";

struct Target {
  // "unix:PATH" or "HOST:PORT".
  std::string address = kDefaultTarget;
  // TCP without TLS; to a loopback address only.
  bool insecure = false;
  // Files in PEM format. Without `tls_ca` the system's authorities are used;
  // `tls_cert` and `tls_key` go together.
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  // The name that the daemon's certificate must have, if not HOST.
  std::string tls_name;
};

bool IsUnixTarget(const Target& target);
// Refuses a target that cannot work or would send bytes in the clear.
absl::Status CheckTarget(const Target& target);

}  // namespace tdp::client

#endif  // CLIENT_LIB_TARGET_H_
