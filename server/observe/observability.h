// Observability: what the daemon shows of itself: metrics and their HTTP port,
// the log of calls, and the state dump.
//
// Other parts of the daemon add what they know: a MetricSource, a section of
// the dump, a page.
//
// Thread safety: Create(), the Add...() methods, Attach(), Serve() and
// Shutdown() on one thread, in this order; DumpState() from any thread between
// Attach() and Shutdown().

#ifndef SERVER_OBSERVE_OBSERVABILITY_H_
#define SERVER_OBSERVE_OBSERVABILITY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/http/http_server.h"
#include "server/observe/call_log.h"
#include "server/observe/metric_source.h"
#include "server/observe/process_metrics.h"
#include "server/observe/rpc_metrics.h"
#include "server/observe/state_dump.h"
#include "server/observe/vm_metrics.h"

namespace tdp::server {

class RpcServer;

class Observability final : private MetricSource {
 public:
  struct Options {
    std::string http;  // HOST:PORT; empty: there is no HTTP port
    // Lets others than this machine's users connect to it.
    bool http_public = false;
    std::string dump_dir;  // empty: state goes to the log
  };

  // INVALID_ARGUMENT for options that cannot be meant.
  static absl::Status Check(const Options& options);
  // Listens, but does not answer before Serve(). All outlive this.
  static absl::StatusOr<std::unique_ptr<Observability>> Create(
      const Options& options, const VmRegistry& registry,
      const Executor& executor);
  Observability(const Observability&) = delete;
  Observability& operator=(const Observability&) = delete;
  ~Observability() override;

  // The first that a call passes, in this order.
  std::vector<CallGate*> gates() { return {&rpc_metrics_, &call_log_}; }
  void AddMetricSource(const MetricSource* source) { sources_.Add(source); }
  void AddStateSection(StateSection section) {
    sections_.push_back(std::move(section));
  }
  // What /metrics tells of calls.
  const MetricSource& rpc_metrics() const { return rpc_metrics_; }
  // For more pages; null if there is no HTTP port.
  HttpServer* http() { return http_.get(); }
  // "127.0.0.1:9100"; empty if there is no HTTP port.
  std::string http_address() const;

  // Once the server has all of its methods; it outlives the rest.
  void Attach(const RpcServer& server);
  void Serve();
  // Afterwards nothing here uses the registry or the server.
  void Shutdown();

  // What they show.
  std::string Metrics() const;
  // To a file or, line by line, to the log.
  void DumpState() const;

 private:
  Observability(const Options& options, const VmRegistry& registry,
                const Executor& executor);

  void Collect(std::vector<prometheus::MetricFamily>& families) const override;

  const Options options_;
  const VmRegistry& registry_;
  const Executor& executor_;
  const RpcServer* server_ = nullptr;
  RpcMetrics rpc_metrics_;
  CallLog call_log_;
  VmMetrics vm_metrics_;
  ProcessMetrics process_metrics_;
  MetricSources sources_;
  std::vector<StateSection> sections_;
  // Last: its thread uses all of the above.
  std::unique_ptr<HttpServer> http_;
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_OBSERVABILITY_H_
