#include "server/listen_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

// What sockaddr_un holds beside its NUL.
constexpr size_t kMaxUnixPathBytes = sizeof(sockaddr_un::sun_path) - 1;

absl::Status AddressError(absl::string_view text, absl::string_view why) {
  return MakeError(ErrorReason::kFieldInvalid,
                   absl::StrCat("--listen: ", Shown(text), " ", why),
                   {{"address", std::string(text)}});
}

absl::StatusOr<ListenAddress> ParseUnix(absl::string_view text,
                                        absl::string_view path) {
  // unix:///run/x is the URI form of unix:/run/x.
  if (absl::StartsWith(path, "//")) path.remove_prefix(2);
  if (path.empty()) return AddressError(text, "has no path after unix:");
  if (path.size() > kMaxUnixPathBytes) {
    return AddressError(
        text, absl::StrCat("has a path of ", path.size(),
                           " bytes; a Unix socket's path has at most ",
                           kMaxUnixPathBytes));
  }
  ListenAddress address;
  address.unix_path = std::string(path);
  return address;
}

absl::StatusOr<ListenAddress> ParseTcp(absl::string_view text) {
  const size_t colon = text.rfind(':');
  ListenAddress address;
  uint32_t port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65535) {
    return AddressError(text,
                        "is neither unix:PATH nor HOST:PORT with a port of 0 "
                        "to 65535");
  }
  absl::string_view host = text.substr(0, colon);
  const bool bracketed =
      absl::StartsWith(host, "[") && absl::EndsWith(host, "]");
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() ||
      (!bracketed && host.find(':') != absl::string_view::npos)) {
    return AddressError(text,
                        "has no host that can be told from its port; write "
                        "IPv6 addresses in brackets, as in [::1]:4000");
  }
  address.host = std::string(host);
  address.port = static_cast<int>(port);
  return address;
}

}  // namespace

bool ListenAddress::is_loopback() const {
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string ListenAddress::ToString() const {
  if (is_unix()) return absl::StrCat("unix:", unix_path);
  // A name could resolve to anything; this one must not.
  const std::string where = host == "localhost" ? "127.0.0.1" : host;
  if (absl::StrContains(where, ':')) {
    return absl::StrCat("[", where, "]:", port);
  }
  return absl::StrCat(where, ":", port);
}

absl::StatusOr<std::vector<ListenAddress>> ParseListenAddresses(
    absl::string_view text) {
  std::vector<ListenAddress> addresses;
  std::set<std::string> seen;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    absl::string_view rest = part;
    absl::StatusOr<ListenAddress> address = absl::ConsumePrefix(&rest, "unix:")
                                                ? ParseUnix(part, rest)
                                                : ParseTcp(part);
    if (!address.ok()) return address.status();
    if ((address->is_unix() || address->port != 0) &&
        !seen.insert(address->ToString()).second) {
      return AddressError(part, "is there twice");
    }
    addresses.push_back(*std::move(address));
  }
  return addresses;
}

}  // namespace tdp::server
