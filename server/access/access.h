// Access: all that a daemon needs to let in who may call, and nobody else.
//
// Thread safety: opened, and destroyed, by one thread.

#ifndef SERVER_ACCESS_ACCESS_H_
#define SERVER_ACCESS_ACCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/access/access_gate.h"
#include "server/access/policy_source.h"
#include "server/access/reload_thread.h"
#include "server/access/tls_files.h"

namespace grpc {
class ServerCredentials;
}  // namespace grpc

namespace tdp::server {

class Access {
 public:
  struct Options {
    std::string policy;        // a file; empty: the default policy
    std::string socket_group;  // a name; empty: the daemon's own group
    bool use_tls = false;
    TlsFiles::Paths tls;  // if it is used
  };

  // Reads all files. An error names the flag or the file, and what is wrong.
  static absl::StatusOr<std::unique_ptr<Access>> Open(const Options& options);

  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  // REQUIRES: no server uses the gate or the credentials any more.
  ~Access();

  AccessGate& gate() { return gate_; }
  const AccessGate& gate() const { return gate_; }
  const PolicySource& policy() const { return *policy_; }
  // Null without TLS.
  const TlsFiles* tls_files() const { return tls_files_.get(); }
  // For TCP addresses.
  const std::shared_ptr<grpc::ServerCredentials>& tcp_credentials() const {
    return tcp_credentials_;
  }
  std::optional<gid_t> socket_group() const { return socket_group_; }

 private:
  Access(std::unique_ptr<PolicySource> policy,
         std::unique_ptr<TlsFiles> tls_files,
         std::optional<gid_t> socket_group);

  // In order of construction; they end in reverse.
  const std::unique_ptr<PolicySource> policy_;
  const std::unique_ptr<TlsFiles> tls_files_;
  const std::shared_ptr<grpc::ServerCredentials> tcp_credentials_;
  const std::optional<gid_t> socket_group_;
  AccessGate gate_;
  ReloadThread reload_thread_;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_ACCESS_H_
