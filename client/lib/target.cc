#include "client/lib/target.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

constexpr absl::string_view kUnixPrefix = "unix:";
constexpr size_t kMaxUnixPathBytes = sizeof(sockaddr_un::sun_path) - 1;
constexpr uint32_t kLoopbackNet = 127;

bool IsLoopback(absl::string_view host) {
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    return ntohl(v4.s_addr) >> 24 == kLoopbackNet;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::Status CheckUnix(const Target& target) {
  absl::string_view path = target.address;
  absl::ConsumePrefix(&path, kUnixPrefix);
  if (path.empty()) {
    return absl::InvalidArgumentError("the target unix: needs a path");
  }
  if (path.size() > kMaxUnixPathBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the socket path ", path, " is longer than ",
                     kMaxUnixPathBytes, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsUnixTarget(const Target& target) {
  return absl::StartsWith(target.address, kUnixPrefix);
}

absl::Status CheckTarget(const Target& target) {
  const bool any_tls = !target.tls_ca.empty() || !target.tls_cert.empty() ||
                       !target.tls_key.empty() || !target.tls_name.empty();
  if (any_tls && (target.insecure || IsUnixTarget(target))) {
    return absl::InvalidArgumentError(
        "TLS flags do not go with --insecure or a unix: target");
  }
  if (IsUnixTarget(target)) return CheckUnix(target);
  const size_t colon = target.address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(target.address.substr(colon + 1), &port) || port < 1 ||
      port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("the target \"", target.address,
                     "\" is neither unix:PATH nor ", "HOST:PORT"));
  }
  absl::string_view host(target.address);
  host = host.substr(0, colon);
  absl::ConsumePrefix(&host, "[");
  absl::ConsumeSuffix(&host, "]");
  if (target.insecure && !IsLoopback(host)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--insecure is for loopback addresses, not for ", host,
                     "; use TLS (--tls-ca)"));
  }
  if (target.tls_cert.empty() != target.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
  }
  return absl::OkStatus();
}

}  // namespace tdp::client
