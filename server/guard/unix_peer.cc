#include "server/guard/unix_peer.h"

#include <arpa/inet.h>

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "server/guard/connection_table.h"
#include "server/guard/peer_address.h"

namespace tdp::server {

std::shared_ptr<const UnixCredentials> FindUnixPeer(
    absl::string_view grpc_peer) {
  const uint64_t number = ConnectionNumberOf(grpc_peer);
  if (number == 0) return nullptr;
  return ConnectionTable::Get().FindCredentials(number);
}

uint64_t ConnectionNumberOf(absl::string_view grpc_peer) {
  // "ipv6:%5B100::2a%5D:0", or with plain brackets.
  if (!absl::ConsumePrefix(&grpc_peer, "ipv6:")) return 0;
  if (!absl::ConsumePrefix(&grpc_peer, "%5B") &&
      !absl::ConsumePrefix(&grpc_peer, "[")) {
    return 0;
  }
  if (!absl::StartsWith(grpc_peer, "100:")) return 0;
  const absl::string_view text =
      grpc_peer.substr(0, grpc_peer.find_first_of("%]"));
  char address[INET6_ADDRSTRLEN] = {};
  if (text.size() >= sizeof(address)) return 0;
  memcpy(address, text.data(), text.size());
  in6_addr parsed;
  if (inet_pton(AF_INET6, address, &parsed) != 1) return 0;
  return ConnectionNumberOf(parsed);
}

}  // namespace tdp::server
