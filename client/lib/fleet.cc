#include "client/lib/fleet.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

constexpr absl::string_view kDnsPrefix = "dns:///";

// Adds a target for each address of "HOST:PORT".
absl::Status AddResolved(const Target& target, const std::string& host_port,
                         const Resolver& resolve,
                         std::vector<Target>& targets) {
  const size_t colon = host_port.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the target ", kDnsPrefix, host_port,
                     " needs a port: ", kDnsPrefix, "HOST:PORT"));
  }
  const std::string host = host_port.substr(0, colon);
  auto addresses = resolve(host);
  if (!addresses.ok()) return addresses.status();
  for (const std::string& address : *addresses) {
    Target one = target;
    one.address = absl::StrContains(address, ":")
                      ? absl::StrCat("[", address, "]")
                      : address;
    one.address += host_port.substr(colon);
    if (!one.insecure && one.tls_name.empty()) one.tls_name = host;
    targets.push_back(std::move(one));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return absl::NotFoundError(
        absl::StrCat("cannot resolve ", host, ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found,
                                                             freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    char text[NI_MAXHOST];
    if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), nullptr, 0,
                    NI_NUMERICHOST) == 0) {
      addresses.emplace_back(text);
    }
  }
  // The order of an answer says nothing, and changes.
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()),
                  addresses.end());
  return addresses;
}

absl::StatusOr<std::vector<Target>> ExpandTarget(const Target& target,
                                                 const Resolver& resolve) {
  std::vector<Target> targets;
  for (absl::string_view address : absl::StrSplit(target.address, ',')) {
    if (absl::ConsumePrefix(&address, kDnsPrefix)) {
      const absl::Status status =
          AddResolved(target, std::string(address), resolve, targets);
      if (!status.ok()) return status;
      continue;
    }
    targets.push_back(target);
    targets.back().address = std::string(address);
  }
  for (const Target& one : targets) {
    const absl::Status status = CheckTarget(one);
    if (!status.ok()) return status;
  }
  return targets;
}

}  // namespace tdp::client
