// The names in a client's verified certificate that say who he is.

#ifndef SERVER_ACCESS_CERTIFICATE_NAMES_H_
#define SERVER_ACCESS_CERTIFICATE_NAMES_H_

#include <string>
#include <vector>

struct grpc_auth_context;

namespace tdp::server {

// The SPIFFE ID, "spiffe://...", alone; or else the DNS names, "dns:NAME", in
// the certificate's order and in lower case. Empty if there is neither, if a
// SPIFFE ID is not well-formed or not the only URI, if there are more than
// limits::kMaxCertificateNames names, or if the connection shows no verified
// certificate. DNS names that are no plain host names are left out.
std::vector<std::string> CertificateNames(const grpc_auth_context* connection);

}  // namespace tdp::server

#endif  // SERVER_ACCESS_CERTIFICATE_NAMES_H_
