#include "server/daemon.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/version.h"
#include "server/observe/library_logs.h"
#include "server/web/web_page.h"
#include "server/web/web_token.h"

namespace tdp::server {
namespace {

// More would cost each call some wake-ups; what takes long runs elsewhere.
constexpr int kPollerCount = 1;
constexpr int kBulkNice = 10;
// Of each lane.
constexpr int kExecutorThreadCount = 4;

absl::Status OptionError(absl::string_view message) {
  return MakeError(ErrorReason::kFieldInvalid, message);
}

// How clients reach the TCP addresses.
struct TcpAddresses {
  bool exist = false;
  bool use_tls = false;
};

absl::StatusOr<TcpAddresses> CheckTcp(
    const DaemonOptions& options, const std::vector<ListenAddress>& addresses) {
  TcpAddresses tcp;
  tcp.use_tls = !options.tls_cert.empty() || !options.tls_key.empty() ||
                !options.tls_client_ca.empty();
  for (const ListenAddress& address : addresses) {
    if (address.is_unix()) continue;
    tcp.exist = true;
    if (tcp.use_tls) continue;
    if (!options.insecure_loopback) {
      return OptionError(absl::StrCat(
          "--listen: ", address.ToString(),
          " is a TCP address, which needs --tls_cert and --tls_key and "
          "--tls_client_ca (or --insecure_loopback, if it is a loopback "
          "address)"));
    }
    if (!address.is_loopback()) {
      return OptionError(absl::StrCat(
          "--listen: ", address.ToString(),
          " is no loopback address, so --insecure_loopback does not cover it; "
          "it needs --tls_cert, --tls_key and --tls_client_ca"));
    }
  }
  if (!tcp.use_tls) return tcp;
  if (!tcp.exist) {
    return OptionError(
        "the --tls flags are for TCP addresses, but --listen has none");
  }
  if (options.tls_cert.empty() || options.tls_key.empty() ||
      options.tls_client_ca.empty()) {
    return OptionError(
        "TLS needs --tls_cert, --tls_key and --tls_client_ca: who calls is "
        "known by his certificate");
  }
  return tcp;
}

absl::Status CheckEngineOptions(const VmRegistryOptions& options) {
  if (options.max_vms < 0 || options.max_vms > limits::kMaxVms) {
    return OptionError(absl::StrCat("--max_vms=", options.max_vms,
                                    " must be 1 to ", limits::kMaxVms,
                                    ", or 0 for the most"));
  }
  if (options.max_page_table_bytes != 0 &&
      options.max_page_table_bytes < limits::kMinPageTableBudgetBytes) {
    return OptionError(
        absl::StrCat("--max_page_table_bytes=", options.max_page_table_bytes,
                     " must be ", limits::kMinPageTableBudgetBytes,
                     " or more, or 0 for a sixteenth of the memory"));
  }
  if (options.image_dir.empty()) return absl::OkStatus();
  struct stat info;
  if (stat(options.image_dir.c_str(), &info) != 0) {
    return OptionError(absl::StrCat("--image_dir=", options.image_dir,
                                    " cannot be used: ", strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode)) {
    return OptionError(
        absl::StrCat("--image_dir=", options.image_dir, " is no folder"));
  }
  return absl::OkStatus();
}

absl::Status CheckOverloadOptions(const OverloadOptions& options) {
  const struct {
    absl::string_view flag;
    int64_t value;
    int64_t max;
  } kRows[] = {
      {"--max_calls_per_client", options.max_calls_per_client,
       options.max_calls},
      {"--max_streams_per_client", options.max_streams_per_client,
       options.max_streams},
      {"--max_frames_per_second_per_client",
       options.max_frames_per_second_per_client, options.max_frames_per_second},
  };
  for (const auto& row : kRows) {
    if (row.value >= 1 && row.value <= row.max) continue;
    return OptionError(absl::StrCat(row.flag, "=", row.value, " must be 1 to ",
                                    row.max, ", the limit for all clients"));
  }
  return absl::OkStatus();
}

absl::Status CheckWebOptions(const DaemonOptions& options) {
  if (!options.web || !options.observe.http.empty()) return absl::OkStatus();
  return OptionError(
      "--web is served on the HTTP port, which needs --http=HOST:PORT, e.g. "
      "--http=127.0.0.1:9464");
}

absl::string_view NameOf(HypervisorKind kind) {
  return kind == HypervisorKind::kKvm ? "kvm" : "software";
}

// Says what works less well than it could.
void WarnAboutHost(const VmRegistryOptions& options,
                   const VmRegistry& registry) {
  const bool fell_back =
      options.hypervisor == HypervisorKind::kUnspecified &&
      registry.default_hypervisor() == HypervisorKind::kSoftware;
  for (const HostCapability& capability : registry.capabilities()) {
    if (capability.available) continue;
    if (capability.name == "kvm" && fell_back) {
      Log(Severity::kWarning,
          "KVM cannot be used here; VMs run on the software hypervisor, which "
          "takes built-in guests only",
          {{"hint", capability.hint}});
    }
    if (capability.name == "membarrier") {
      Log(Severity::kWarning, "page-table walks are slow here",
          {{"hint", capability.hint}});
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(
    const DaemonOptions& options, const MakeRegistry& make_registry) {
  RouteLibraryLogs();
  TDP_ASSIGN_OR_RETURN(std::vector<ListenAddress> addresses,
                       ParseListenAddresses(options.listen));
  TDP_ASSIGN_OR_RETURN(const TcpAddresses tcp, CheckTcp(options, addresses));
  TDP_RETURN_IF_ERROR(CheckEngineOptions(options.engine));
  TDP_RETURN_IF_ERROR(Observability::Check(options.observe));
  TDP_RETURN_IF_ERROR(CheckWebOptions(options));
  TDP_RETURN_IF_ERROR(CheckOverloadOptions(options.overload));

  std::unique_ptr<Daemon> daemon(new Daemon(std::move(addresses)));
  TDP_ASSIGN_OR_RETURN(daemon->access_,
                       Access::Open({.policy = options.policy,
                                     .socket_group = options.socket_group,
                                     .use_tls = tcp.use_tls,
                                     .tls = {options.tls_cert, options.tls_key,
                                             options.tls_client_ca}}));
  // Before the engine: a second daemon is refused before it does anything.
  TDP_RETURN_IF_ERROR(daemon->ClaimSockets());
  TDP_ASSIGN_OR_RETURN(daemon->registry_, make_registry(options.engine));
  WarnAboutHost(options.engine, *daemon->registry_);
  TDP_RETURN_IF_ERROR(daemon->Serve(options));
  return daemon;
}

Daemon::Daemon(std::vector<ListenAddress> addresses)
    : addresses_(std::move(addresses)) {}

Daemon::~Daemon() = default;

absl::Status Daemon::ClaimSockets() {
  for (const ListenAddress& address : addresses_) {
    if (!address.is_unix()) continue;
    TDP_ASSIGN_OR_RETURN(std::unique_ptr<UnixSocketClaim> claim,
                         UnixSocketClaim::Take(address.unix_path));
    claims_.push_back(std::move(claim));
  }
  return absl::OkStatus();
}

absl::Status Daemon::Serve(const DaemonOptions& options) {
  std::vector<RpcListener> listeners;
  for (const ListenAddress& address : addresses_) {
    listeners.push_back({address.ToString(),
                         address.is_unix() ? grpc::InsecureServerCredentials()
                                           : access_->tcp_credentials()});
  }
  executor_ = std::make_unique<Executor>(
      Executor::Options{.thread_count = kExecutorThreadCount,
                        .max_queued = limits::kMaxQueuedCalls,
                        .max_queued_per_peer = limits::kMaxQueuedCallsPerClient,
                        .bulk_nice = kBulkNice});
  TDP_ASSIGN_OR_RETURN(
      observe_, Observability::Create(options.observe, *registry_, *executor_));
  overload_ = std::make_unique<OverloadGate>(options.overload);
  services_ = std::make_unique<Services>(*registry_, *executor_);
  services_->ReportLimits(overload_->limits());
  std::vector<CallGate*> gates = observe_->gates();
  gates.push_back(&access_->gate());
  gates.push_back(overload_.get());
  server_ = std::make_unique<RpcServer>(
      RpcServer::Options{.poller_count = kPollerCount, .gates = gates},
      *executor_);
  services_->AddTo(*server_);
  admission_metrics_ = std::make_unique<AdmissionMetrics>(*access_, *overload_);
  observe_->AddMetricSource(admission_metrics_.get());
  observe_->AddStateSection(
      {"admission", [this] { return admission_metrics_->Describe(); }});
  observe_->Attach(*server_);
  if (options.web) TDP_RETURN_IF_ERROR(AddWeb(options.web_token_file));

  std::vector<int> ports;
  // Nobody else may connect in the moment between bind and chmod.
  const mode_t old_mask = umask(0117);
  absl::Status status = server_->Start(listeners, &ports);
  umask(old_mask);
  for (const auto& claim : claims_) {
    if (!status.ok()) break;
    status = claim->SetAccess(access_->socket_group());
    if (status.ok()) continue;
    server_->Shutdown();
    // A call may have come in; its handler uses the engine.
    executor_->Shutdown();
  }
  if (!status.ok()) return status;
  observe_->Serve();

  std::vector<std::string> names;
  for (size_t i = 0; i < addresses_.size(); ++i) {
    ListenAddress bound = addresses_[i];
    if (!bound.is_unix()) bound.port = ports[i];
    names.push_back(bound.ToString());
  }
  ready_line_ = absl::StrCat("tdpd ", kVersion, " serving on ",
                             absl::StrJoin(names, " and "), ", hypervisor ",
                             NameOf(registry_->default_hypervisor()));
  if (observe_->http() != nullptr) {
    absl::StrAppend(&ready_line_, ", metrics on http://",
                    observe_->http_address(), "/metrics");
    if (options.web) {
      absl::StrAppend(&ready_line_, ", web page on http://",
                      observe_->http_address(), "/");
    }
  }
  return absl::OkStatus();
}

absl::Status Daemon::AddWeb(const std::string& token_file) {
  TDP_ASSIGN_OR_RETURN(WebToken token, WebToken::Open(token_file));
  services_->OfferTo(bridge_);
  web_api_ = std::make_unique<WebApi>(std::move(token), *registry_, bridge_,
                                      observe_->rpc_metrics(),
                                      services_->newest_working_sets());
  AddWebPage(*web_api_, *observe_->http());
  return absl::OkStatus();
}

void Daemon::AskPollers(std::function<void()> answered) {
  server_->AskPollers(std::move(answered));
}

void Daemon::Shutdown(absl::Duration drain_limit) {
  server_->BeginDrain();
  if (!server_->WaitUntilIdle(absl::Now() + drain_limit)) {
    Log(Severity::kWarning,
        "calls still run at the end of the drain time; "
        "they are cancelled",
        {{"count", absl::StrCat(server_->active_count())}});
  }
  server_->Shutdown();
  // Handlers whose call ended before them may still run; they use the engine.
  executor_->Shutdown();
  observe_->Shutdown();
  // The engine calls back into the executor until it is gone.
  registry_.reset();
}

}  // namespace tdp::server
