#include "server/access/access_gate.h"

#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "grpc/grpc_security.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/server_context.h"
#include "server/access/certificate_names.h"

namespace tdp::server {
namespace {

// A connection that carries more than this is not kept by the cache: its
// client chose how much.
constexpr size_t kMaxKeptCertificateBytes = 16 << 10;

constexpr absl::string_view kLoopback = "loopback";

struct ReleaseConnection {
  void operator()(grpc_auth_context* connection) const {
    grpc_auth_context_release(connection);
  }
};
using Connection = std::unique_ptr<grpc_auth_context, ReleaseConnection>;

absl::string_view ValueOf(const grpc_auth_context* connection,
                          const char* name) {
  grpc_auth_property_iterator properties =
      grpc_auth_context_find_properties_by_name(connection, name);
  const grpc_auth_property* property =
      grpc_auth_property_iterator_next(&properties);
  if (property == nullptr) return {};
  return {property->value, property->value_length};
}

// gRPC writes the brackets of an IPv6 address as %5B and %5D.
bool IsLoopback(absl::string_view grpc_peer) {
  return absl::StartsWith(grpc_peer, "ipv4:127.") ||
         absl::StartsWith(grpc_peer, "ipv6:[::1]:") ||
         absl::StartsWith(grpc_peer, "ipv6:%5B::1%5D:");
}

std::shared_ptr<const Peer> MakePeer(std::string identity, Role role) {
  const uint64_t id = PeerId(identity);
  return std::make_shared<const Peer>(Peer{std::move(identity), role, id});
}

absl::Status UnauthenticatedError(const MethodTraits& method) {
  return MakeError(
      ErrorReason::kUnauthenticated,
      absl::StrCat(method.name, " needs the role ", RoleName(method.role),
                   ", but nothing says who calls; a client certificate names "
                   "its owner by one SPIFFE ID or by DNS names in its SAN"),
      {{"method", method.name},
       {"neededRole", std::string(RoleName(method.role))}});
}

}  // namespace

uint64_t PeerId(absl::string_view identity) {
  const uint64_t hash = absl::HashOf(identity);
  return hash == 0 ? 1 : hash;
}

absl::Status RoleDeniedError(const MethodTraits& method, const Peer& peer) {
  const absl::string_view needed = RoleName(method.role);
  const absl::string_view role = RoleName(peer.role);
  return MakeError(
      ErrorReason::kRoleDenied,
      absl::StrCat(method.name, " needs the role ", needed, ", but ",
                   peer.identity, " has ",
                   peer.role == Role::kNone ? "no role" : role,
                   "; the daemon's policy file (--policy) gives it with the "
                   "line \"",
                   needed, " ", peer.identity, "\""),
      {{"method", method.name},
       {"neededRole", std::string(needed)},
       {"role", std::string(role)},
       {"identity", peer.identity}});
}

AccessGate::AccessGate(const PolicySource& policy, FindUnixPeer find_unix_peer)
    : policy_(policy), find_unix_peer_(std::move(find_unix_peer)) {}

absl::Status AccessGate::Enter(grpc::ServerContext& transport,
                               CallContext& context) {
  std::shared_ptr<const Peer> peer = PeerOf(transport);
  const MethodTraits& method = context.method();
  const bool is_known = peer != nullptr;
  const Role role = is_known ? peer->role : Role::kNone;
  if (is_known) context.set_peer(std::move(peer));
  if (role >= method.role) return absl::OkStatus();
  if (!is_known) {
    unauthenticated_count_.fetch_add(1, std::memory_order_relaxed);
    return UnauthenticatedError(method);
  }
  role_denied_count_[static_cast<size_t>(method.role)].fetch_add(
      1, std::memory_order_relaxed);
  return RoleDeniedError(method, *context.peer());
}

AccessStats AccessGate::stats() const {
  AccessStats stats;
  for (size_t i = 0; i < role_denied_count_.size(); ++i) {
    stats.role_denied_count[i] =
        role_denied_count_[i].load(std::memory_order_relaxed);
  }
  stats.unauthenticated_count =
      unauthenticated_count_.load(std::memory_order_relaxed);
  return stats;
}

std::shared_ptr<const Peer> AccessGate::PeerOf(grpc::ServerContext& transport) {
  // gRPC has one of these for each connection, with or without TLS.
  Connection connection(grpc_call_auth_context(transport.c_call()));
  if (connection == nullptr) return nullptr;
  const uint64_t generation = policy_.generation();
  if (auto peer = peers_.Find(connection.get(), generation)) return peer;
  auto peer = Identify(transport, connection.get(), *policy_.policy());
  if (peer == nullptr) return nullptr;
  if (ValueOf(connection.get(), GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME)
          .size() <= kMaxKeptCertificateBytes) {
    peers_.Insert(std::move(connection), generation, peer);
  }
  return peer;
}

std::shared_ptr<const Peer> AccessGate::Identify(
    const grpc::ServerContext& transport, const grpc_auth_context* connection,
    const AccessPolicy& policy) const {
  const absl::string_view security =
      ValueOf(connection, GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  if (security == GRPC_SSL_TRANSPORT_SECURITY_TYPE) {
    std::vector<std::string> names = CertificateNames(connection);
    if (names.empty()) return nullptr;
    const Role role = policy.RoleOfCertificate(names);
    return MakePeer(std::move(names.front()), role);
  }
  const std::string address = transport.peer();
  if (const auto process = find_unix_peer_(address)) {
    return MakePeer(
        absl::StrCat("uid:", process->uid),
        policy.RoleOfProcess(process->uid, process->gid, process->groups));
  }
  // The daemon listens without TLS on loopback addresses only, and only if it
  // was told to.
  if (IsLoopback(address)) {
    return MakePeer(std::string(kLoopback), policy.RoleOfLoopback());
  }
  return nullptr;
}

}  // namespace tdp::server
