// The addresses of --listen: unix:PATH and HOST:PORT, comma separated.

#ifndef SERVER_LISTEN_ADDRESS_H_
#define SERVER_LISTEN_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

struct ListenAddress {
  std::string unix_path;  // empty for TCP
  std::string host;       // without brackets
  int port = 0;           // 0: the system chooses

  bool is_unix() const { return !unix_path.empty(); }
  // Only this machine can reach it. "localhost" counts as 127.0.0.1.
  bool is_loopback() const;
  // As gRPC and the ready line write it.
  std::string ToString() const;
};

// At least one address; an error names the one that is malformed.
absl::StatusOr<std::vector<ListenAddress>> ParseListenAddresses(
    absl::string_view text);

}  // namespace tdp::server

#endif  // SERVER_LISTEN_ADDRESS_H_
