#include "server/access/tls_credentials.h"

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "grpcpp/security/server_credentials.h"

namespace tdp::server {
namespace {

// What gRPC asks, before each handshake at an address, whether there are other
// certificates than it has.
//
// gRPC 1.51's own file watcher would not do: it hands on a key and a
// certificate that do not fit together, and drops what it had before it finds
// out.
class Fetcher {
 public:
  explicit Fetcher(const TlsFiles& files) : files_(files) {}

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* fetcher, grpc_ssl_server_certificate_config** config) {
    return static_cast<Fetcher*>(fetcher)->Fetch(config);
  }

 private:
  grpc_ssl_certificate_config_reload_status Fetch(
      grpc_ssl_server_certificate_config** config) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::shared_ptr<const TlsMaterial> now = files_.material();
    absl::MutexLock lock(&mutex_);
    if (now == handed_over_)
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {now->key.c_str(),
                                             now->certificates.c_str()};
    *config = grpc_ssl_server_certificate_config_create(
        now->client_authorities.c_str(), &pair, 1);
    handed_over_ = std::move(now);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const TlsFiles& files_;
  absl::Mutex mutex_;
  std::shared_ptr<const TlsMaterial> handed_over_ ABSL_GUARDED_BY(mutex_);
};

class MutualTls final : public grpc::ServerCredentials {
 public:
  explicit MutualTls(const TlsFiles& files) : files_(files) {}

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    // One for each address: each has to hear of a change.
    fetchers_.push_back(std::make_unique<Fetcher>(files_));
    grpc_server_credentials* credentials =
        grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
                &Fetcher::Fetch, fetchers_.back().get()));
    const int port =
        grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  const TlsFiles& files_;
  std::vector<std::unique_ptr<Fetcher>> fetchers_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MutualTlsCredentials(
    const TlsFiles& files) {
  return std::make_shared<MutualTls>(files);
}

}  // namespace tdp::server
