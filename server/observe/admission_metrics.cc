#include "server/observe/admission_metrics.h"

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/guard/guard_stats.h"
#include "server/observe/metric_family.h"

namespace tdp::server {
namespace {

using F = FamilyBuilder;

// By the number of the role that the method needs.
constexpr const char* kRoles[] = {"none", "observer", "operator", "admin"};

void CollectGuard(std::vector<prometheus::MetricFamily>& families) {
  const GuardStats guard = Stats();
  F::Gauge("tdpd_guard_connections", "Connections that are open.")
      .Add({}, static_cast<double>(guard.open_connections))
      .MoveTo(families);
  F::Gauge("tdpd_guard_streams", "HTTP/2 streams that are open.")
      .Add({}, static_cast<double>(guard.open_streams))
      .MoveTo(families);
  F::Counter("tdpd_guard_accepted_connections_total",
             "Connections that were let in.")
      .Add({}, static_cast<double>(guard.accepted_connections))
      .MoveTo(families);
  F cuts = F::Counter("tdpd_guard_cut_connections_total",
                      "Connections that were cut off or not let in.");
  for (const auto& [reason, count] : guard.cuts) {
    cuts.Add({{"reason", reason}}, static_cast<double>(count));
  }
  cuts.MoveTo(families);
}

void AddReloads(F& family, const char* file, int64_t taken, int64_t refused) {
  family.Add({{"file", file}, {"result", "taken"}}, static_cast<double>(taken));
  family.Add({{"file", file}, {"result", "refused"}},
             static_cast<double>(refused));
}

void CollectAccess(const Access& access,
                   std::vector<prometheus::MetricFamily>& families) {
  const AccessStats stats = access.gate().stats();
  static_assert(std::size(kRoles) ==
                std::tuple_size_v<decltype(stats.role_denied_count)>);
  F denied = F::Counter("tdpd_access_denied_total",
                        "Calls refused because the caller's role does not "
                        "suffice, by the role that the method needs.");
  for (size_t i = 1; i < std::size(kRoles); ++i) {
    denied.Add({{"role", kRoles[i]}},
               static_cast<double>(stats.role_denied_count[i]));
  }
  denied.MoveTo(families);
  F::Counter("tdpd_access_unauthenticated_total",
             "Calls refused because nothing says who makes them.")
      .Add({}, static_cast<double>(stats.unauthenticated_count))
      .MoveTo(families);
  F reloads = F::Counter("tdpd_access_reloads_total",
                         "Files that changed: taken, or refused and the old "
                         "content kept.");
  AddReloads(reloads, "policy", access.policy().reload_count(),
             access.policy().reload_failure_count());
  if (const TlsFiles* tls = access.tls_files(); tls != nullptr) {
    AddReloads(reloads, "tls", tls->reload_count(),
               tls->reload_failure_count());
  }
  reloads.MoveTo(families);
}

}  // namespace

void AdmissionMetrics::Collect(
    std::vector<prometheus::MetricFamily>& families) const {
  CollectGuard(families);
  CollectAccess(access_, families);
  const OverloadGate::Load load = overload_.load();
  F::Gauge("tdpd_overload_clients", "Clients whose use is remembered.")
      .Add({}, static_cast<double>(load.clients))
      .MoveTo(families);
  F::Gauge("tdpd_overload_calls", "Calls of all clients that are under way.")
      .Add({}, static_cast<double>(load.calls))
      .MoveTo(families);
  F::Gauge("tdpd_overload_streams", "Streams among them.")
      .Add({}, static_cast<double>(load.streams))
      .MoveTo(families);
}

std::string AdmissionMetrics::Describe() const {
  const GuardStats guard = Stats();
  const OverloadGate::Load load = overload_.load();
  std::string text =
      absl::StrCat("connections=", guard.open_connections,
                   " http2_streams=", guard.open_streams,
                   " accepted=", guard.accepted_connections, "\n");
  for (const auto& [reason, count] : guard.cuts) {
    if (count > 0) absl::StrAppend(&text, "cut ", reason, "=", count, "\n");
  }
  absl::StrAppend(&text, "clients=", load.clients, " calls=", load.calls,
                  " streams=", load.streams, "\n");
  return text;
}

}  // namespace tdp::server
