#include "server/access/certificate_names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/limits.h"
#include "grpc/grpc_security.h"
#include "grpc/grpc_security_constants.h"
#include "server/access/san_pattern.h"

namespace tdp::server {
namespace {

std::vector<absl::string_view> ValuesOf(const grpc_auth_context* connection,
                                        const char* name) {
  std::vector<absl::string_view> values;
  grpc_auth_property_iterator properties =
      grpc_auth_context_find_properties_by_name(connection, name);
  while (const grpc_auth_property* property =
             grpc_auth_property_iterator_next(&properties)) {
    values.emplace_back(property->value, property->value_length);
  }
  return values;
}

}  // namespace

std::vector<std::string> CertificateNames(const grpc_auth_context* connection) {
  // Set from a certificate only, after it was verified.
  if (grpc_auth_context_peer_is_authenticated(connection) == 0) return {};
  const auto uris = ValuesOf(connection, GRPC_PEER_URI_PROPERTY_NAME);
  for (const absl::string_view uri : uris) {
    if (!absl::StartsWithIgnoreCase(uri, kSpiffePrefix)) continue;
    if (uris.size() > 1 || !IsSanIdentity(uri)) return {};
    return {std::string(uri)};
  }
  std::vector<std::string> names;
  for (const absl::string_view host :
       ValuesOf(connection, GRPC_PEER_DNS_PROPERTY_NAME)) {
    std::string name = absl::StrCat(kDnsPrefix, absl::AsciiStrToLower(host));
    if (!IsSanIdentity(name)) continue;
    if (names.size() == limits::kMaxCertificateNames) return {};
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace tdp::server
