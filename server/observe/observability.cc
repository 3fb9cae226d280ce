#include "server/observe/observability.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/http/http_request.h"
#include "server/listen_address.h"
#include "server/observe/metric_family.h"
#include "server/rpc/rpc_server.h"

namespace tdp::server {
namespace {

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

absl::Status OptionError(absl::string_view message) {
  return MakeError(ErrorReason::kFieldInvalid, message);
}

const char* NameOf(HypervisorKind kind) {
  return kind == HypervisorKind::kKvm ? "kvm" : "software";
}

absl::StatusOr<ListenAddress> ParseHttpAddress(
    const Observability::Options& options) {
  const auto addresses = ParseListenAddresses(options.http);
  if (!addresses.ok() || addresses->size() != 1 || (*addresses)[0].is_unix()) {
    return OptionError(
        absl::StrCat("--http=", options.http,
                     " is not HOST:PORT with one IP address and a port"));
  }
  const ListenAddress& address = (*addresses)[0];
  // A name could come to mean another machine.
  if (address.host != "localhost" && !IsIpAddress(address.host)) {
    return OptionError(absl::StrCat("--http: ", address.ToString(),
                                    " must have an IP address"));
  }
  if (!address.is_loopback() && !options.http_public) {
    return OptionError(absl::StrCat(
        "--http: ", address.ToString(),
        " is no loopback address, and whoever reaches it sees the names and "
        "the load of all VMs; --http_public allows that"));
  }
  return address;
}

absl::Status CheckDumpDir(const std::string& folder) {
  struct stat info;
  if (stat(folder.c_str(), &info) != 0) {
    return OptionError(absl::StrCat("--dump_dir=", folder,
                                    " cannot be used: ", strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode)) {
    return OptionError(absl::StrCat("--dump_dir=", folder, " is no folder"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Observability::Check(const Options& options) {
  if (!options.http.empty()) {
    TDP_RETURN_IF_ERROR(ParseHttpAddress(options).status());
  }
  if (!options.dump_dir.empty()) {
    TDP_RETURN_IF_ERROR(CheckDumpDir(options.dump_dir));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Observability>> Observability::Create(
    const Options& options, const VmRegistry& registry,
    const Executor& executor) {
  TDP_RETURN_IF_ERROR(Check(options));
  std::unique_ptr<Observability> self(
      new Observability(options, registry, executor));
  if (options.http.empty()) return self;
  TDP_ASSIGN_OR_RETURN(const ListenAddress address, ParseHttpAddress(options));
  TDP_ASSIGN_OR_RETURN(self->http_,
                       HttpServer::Listen({.host = address.host,
                                           .port = address.port,
                                           .is_public = options.http_public}));
  return self;
}

Observability::Observability(const Options& options, const VmRegistry& registry,
                             const Executor& executor)
    : options_(options),
      registry_(registry),
      executor_(executor),
      vm_metrics_(registry),
      process_metrics_(NameOf(registry.default_hypervisor())) {
  for (const MetricSource* source : std::initializer_list<const MetricSource*>{
           &rpc_metrics_, &vm_metrics_, this, &call_log_, &process_metrics_}) {
    sources_.Add(source);
  }
}

Observability::~Observability() { Shutdown(); }

std::string Observability::http_address() const {
  if (http_ == nullptr) return "";
  ListenAddress address = *ParseHttpAddress(options_);
  address.port = http_->port();
  return address.ToString();
}

void Observability::Attach(const RpcServer& server) {
  server_ = &server;
  rpc_metrics_.SetMethods(server.method_traits());
  std::vector<StateSection> sections = {
      {"process", [] { return DescribeProcess(absl::Now()); }},
      {"executors", [this] { return DescribeExecutor("calls", executor_); }},
      {"calls in flight",
       [this] { return DescribeCalls(server_->active_calls(), absl::Now()); }},
      {"vms", [this] { return DescribeVms(registry_); }},
  };
  sections_.insert(sections_.begin(), sections.begin(), sections.end());
}

void Observability::Serve() {
  if (http_ == nullptr) return;
  http_->AddRoute("/metrics", [this](const HttpRequest&) {
    return HttpResponse{.content_type = kMetricsType, .body = Metrics()};
  });
  http_->AddRoute("/healthz", [this](const HttpRequest&) {
    return server_->draining() ? HttpError(503, "draining")
                               : HttpResponse{.body = "ok\n"};
  });
  http_->Start();
}

void Observability::Shutdown() {
  if (http_ != nullptr) http_->Shutdown();
}

std::string Observability::Metrics() const {
  return ToPrometheusText(sources_.Collect());
}

void Observability::DumpState() const {
  const absl::Time now = absl::Now();
  const std::string text = DescribeSections(sections_);
  if (!options_.dump_dir.empty()) {
    const auto path = WriteStateFile(options_.dump_dir, text, now);
    if (path.ok()) {
      Log(Severity::kWarning, "the state was written", {{"file", *path}});
      return;
    }
    Log(Severity::kError, "the state goes to the log",
        {{"error", path.status().message()}});
  }
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    Log(Severity::kWarning, "state", {{"line", line}});
  }
}

void Observability::Collect(
    std::vector<prometheus::MetricFamily>& families) const {
  using F = FamilyBuilder;
  F::Gauge("tdpd_executor_queued_tasks",
           "Calls and steps of calls that wait for a thread.")
      .Add({}, static_cast<double>(executor_.queued_count()))
      .MoveTo(families);
  F::Gauge("tdpd_executor_threads", "Threads that run long calls.")
      .Add({}, executor_.thread_count())
      .MoveTo(families);
  if (http_ == nullptr) return;
  F::Counter("tdpd_http_connections_cut_total",
             "HTTP connections that were cut before their response was sent, "
             "because they were slow or others needed the room.")
      .Add({}, static_cast<double>(http_->cut_count()))
      .MoveTo(families);
  auto responses = F::Counter("tdpd_http_responses_total",
                              "HTTP responses, by status code.");
  for (const auto& [code, count] : http_->response_counts()) {
    responses.Add({{"code", absl::StrCat(code)}}, static_cast<double>(count));
  }
  responses.MoveTo(families);
}

}  // namespace tdp::server
