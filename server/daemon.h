// Daemon: everything between the flags and the signal: listeners, engine,
// executor, services, and their end in the right order.
//
// Thread safety: Start() and Shutdown() on one thread. The threads that it
// starts inherit that thread's signal mask.

#ifndef SERVER_DAEMON_H_
#define SERVER_DAEMON_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/vm/vm_registry.h"
#include "server/access/access.h"
#include "server/base/executor.h"
#include "server/listen_address.h"
#include "server/observe/admission_metrics.h"
#include "server/observe/observability.h"
#include "server/overload/overload_gate.h"
#include "server/rpc/rpc_server.h"
#include "server/services/services.h"
#include "server/unix_socket_claim.h"
#include "server/web/json_bridge.h"
#include "server/web/web_api.h"

namespace tdp::server {

struct DaemonOptions {
  std::string listen;  // as ParseListenAddresses() takes it
  // Lets TCP addresses that only this machine can reach go without TLS.
  bool insecure_loopback = false;
  // The group that may connect to the Unix socket; empty: the daemon's own.
  std::string socket_group;
  // Who may call what; empty: root and the daemon's own user, everything.
  std::string policy;
  // PEM files. All three together switch TLS on for TCP addresses; clients must
  // show a certificate of the client CA.
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  OverloadOptions overload;
  VmRegistryOptions engine;
  Observability::Options observe;
  // Serves the web page on the HTTP port, to who shows the token of the file;
  // see WebToken::Open().
  bool web = false;
  std::string web_token_file;
};

class Daemon {
 public:
  // VmRegistry::Create, or a test's own.
  using MakeRegistry =
      std::function<absl::StatusOr<std::unique_ptr<VmRegistry>>(
          const VmRegistryOptions&)>;

  // Serves when it returns. INVALID_ARGUMENT for options that cannot be meant;
  // other errors are the host's.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(
      const DaemonOptions& options, const MakeRegistry& make_registry);

  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  // REQUIRES: Shutdown() has returned.
  ~Daemon();

  // "tdpd 0.1.0 serving on unix:/run/tdpd/tdpd.sock, hypervisor kvm".
  const std::string& ready_line() const { return ready_line_; }

  // Writes the state of the daemon, for a person. Not during Shutdown().
  void DumpState() const { observe_->DumpState(); }
  // Has `answered` called by what serves the calls; see
  // RpcServer::AskPollers(). REQUIRES: Shutdown() has not begun.
  void AskPollers(std::function<void()> answered);

  // Refuses new calls, gives those under way up to `drain_limit` to finish,
  // cancels what is left, then stops and deletes every VM. Waits for handlers,
  // however long they take.
  void Shutdown(absl::Duration drain_limit);

 private:
  explicit Daemon(std::vector<ListenAddress> addresses);

  absl::Status ClaimSockets();
  absl::Status Serve(const DaemonOptions& options);
  // Adds the web page to the HTTP port.
  absl::Status AddWeb(const std::string& token_file);

  const std::vector<ListenAddress> addresses_;
  std::string ready_line_;
  // In order of construction; they end in reverse.
  std::vector<std::unique_ptr<UnixSocketClaim>> claims_;
  std::unique_ptr<Access> access_;
  std::unique_ptr<OverloadGate> overload_;
  std::unique_ptr<AdmissionMetrics> admission_metrics_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<VmRegistry> registry_;
  std::unique_ptr<Observability> observe_;
  std::unique_ptr<Services> services_;
  JsonBridge bridge_;
  std::unique_ptr<WebApi> web_api_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace tdp::server

#endif  // SERVER_DAEMON_H_
