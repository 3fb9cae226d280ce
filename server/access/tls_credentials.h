// TLS for the daemon's TCP addresses: clients must show a certificate, and each
// new connection uses the files as they are then.

#ifndef SERVER_ACCESS_TLS_CREDENTIALS_H_
#define SERVER_ACCESS_TLS_CREDENTIALS_H_

#include <memory>

#include "server/access/tls_files.h"

namespace grpc {
class ServerCredentials;
}  // namespace grpc

namespace tdp::server {

// `files` outlives the credentials, and they outlive the servers that use them.
std::shared_ptr<grpc::ServerCredentials> MutualTlsCredentials(
    const TlsFiles& files);

}  // namespace tdp::server

#endif  // SERVER_ACCESS_TLS_CREDENTIALS_H_
