#include "client/lib/channel.h"

#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tdp::client {
namespace {

constexpr int kMaxResponseBytes = 16 << 20;

// A daemon that comes back is found soon. gRPC would take up to two minutes.
constexpr int kFirstReconnectBackoffMs = 100;
constexpr int kMaxReconnectBackoffMs = 2000;

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file || text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsFor(
    const Target& target) {
  if (target.insecure || IsUnixTarget(target)) {
    return grpc::InsecureChannelCredentials();
  }
  const auto ca = ReadPem(target.tls_ca);
  if (!ca.ok()) return ca.status();
  const auto cert = ReadPem(target.tls_cert);
  if (!cert.ok()) return cert.status();
  const auto key = ReadPem(target.tls_key);
  if (!key.ok()) return key.status();
  return grpc::SslCredentials({*ca, *key, *cert});
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const Target& target) {
  const absl::Status checked = CheckTarget(target);
  if (!checked.ok()) return checked;
  const auto credentials = CredentialsFor(target);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxResponseBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   kFirstReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  // Otherwise all channels to one target would share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (!target.tls_name.empty()) {
    arguments.SetSslTargetNameOverride(target.tls_name);
  }
  return grpc::CreateCustomChannel(target.address, *credentials, arguments);
}

}  // namespace tdp::client
