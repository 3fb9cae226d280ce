#include "server/observe/vm_metrics.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "server/observe/log2_histogram.h"
#include "server/observe/metric_family.h"

namespace tdp::server {
namespace {

constexpr VmState kStates[] = {VmState::kCreated, VmState::kRunning,
                               VmState::kPaused, VmState::kStopped,
                               VmState::kFailed};
constexpr int64_t kFrameBytes = 4096;

// The families of which each VM has a part.
struct VmFamilies {
  using F = FamilyBuilder;

  void Add(const VmInfo& info, const Vm& vm);
  void AddFaults(const MetricLabels& vm,
                 const std::vector<FaultOutcomeStats>& outcomes);
  void MoveTo(std::vector<prometheus::MetricFamily>& families);

  F state = F::Gauge("tdpd_vm_state",
                     "1 for the state that the VM is in, 0 for the others.");
  F vcpus = F::Gauge("tdpd_vm_vcpus", "vCPUs of the VM.");
  F memslots = F::Gauge("tdpd_vm_memslots", "Memslots of the VM.");
  F memslot_bytes = F::Gauge("tdpd_vm_memslot_bytes",
                             "Guest memory that the VM's memslots cover.");
  F leaves = F::Gauge("tdpd_vm_leaf_entries",
                      "Leaf entries of the VM's page tables, by the size of "
                      "the page that they map.");
  F table_bytes =
      F::Gauge("tdpd_vm_page_table_bytes", "Memory of the VM's page tables.");
  F table_limit = F::Gauge("tdpd_vm_page_table_limit_bytes",
                           "What the VM's page tables may take.");
  F deferred = F::Gauge("tdpd_vm_deferred_frees",
                        "Page tables that are unlinked and wait for the "
                        "readers which may still see them.");
  F waiting = F::Gauge("tdpd_vm_waiting_accesses",
                       "Accesses of the guest that wait for a verdict.");
  F host_calls = F::Counter("tdpd_vm_host_calls_total",
                            "System calls that the VM's page tables needed.");
  F yields = F::Counter("tdpd_vm_yields_total",
                        "Times that long work on the VM's page tables let "
                        "others go first.");
  F holds = F::Counter("tdpd_vm_exclusive_holds_total",
                       "Times that the lock of the VM's page tables was held "
                       "against all others.");
  F held = F::Counter("tdpd_vm_exclusive_hold_seconds_total",
                      "Time for which it was held so.");
  F faults =
      F::Counter("tdpd_vm_faults_total", "Faults of the VM, by their outcome.");
  F fault_duration = F::Histogram(
      "tdpd_vm_fault_duration_seconds",
      "Time that faults took, by their outcome. The sum is an estimate from "
      "the buckets.");
};

void VmFamilies::AddFaults(const MetricLabels& vm,
                           const std::vector<FaultOutcomeStats>& outcomes) {
  for (const FaultOutcomeStats& outcome : outcomes) {
    MetricLabels labels = vm;
    labels.push_back({"outcome", outcome.outcome});
    faults.Add(labels, static_cast<double>(outcome.fault_count));
    // Most VMs never see most outcomes.
    if (outcome.fault_count == 0) continue;
    const auto& counts = outcome.latency_us_log2_counts;
    fault_duration.Add(std::move(labels),
                       ToHistogram(counts, 0, EstimateSumSeconds(counts, 0)));
  }
}

void VmFamilies::Add(const VmInfo& info, const Vm& vm) {
  const MetricLabels labels = {{"vm", info.id}};
  const auto with = [&](const char* key, const char* value) {
    return MetricLabels{{"vm", info.id}, {key, value}};
  };
  const auto number = [](int64_t value) { return static_cast<double>(value); };

  for (const VmState each : kStates) {
    state.Add(with("state", NameOf(each)), each == info.state ? 1 : 0);
  }
  vcpus.Add(labels, info.config.vcpu_count);
  int64_t frames = 0;
  const std::vector<MemslotInfo> slots = vm.ListMemslots();
  for (const MemslotInfo& slot : slots) frames += slot.config.frame_count;
  memslots.Add(labels, number(static_cast<int64_t>(slots.size())));
  memslot_bytes.Add(labels, number(frames) * kFrameBytes);

  const VmStats stats = vm.Stats();
  leaves.Add(with("page", "4k"), number(stats.leaf_4k_count));
  leaves.Add(with("page", "2m"), number(stats.leaf_2m_count));
  leaves.Add(with("page", "1g"), number(stats.leaf_1g_count));
  table_bytes.Add(labels, number(stats.page_table_bytes));
  table_limit.Add(labels, number(info.config.page_table_limit_bytes));
  deferred.Add(labels, number(stats.deferred_free_count));
  waiting.Add(labels, number(stats.waiting_access_count));
  host_calls.Add(labels, number(stats.host_call_count));
  yields.Add(labels, number(stats.yield_count));
  holds.Add(labels, number(stats.exclusive_hold_count));
  held.Add(labels, number(stats.exclusive_hold_nanoseconds) / 1e9);
  AddFaults(labels, stats.fault_outcomes);
}

void VmFamilies::MoveTo(std::vector<prometheus::MetricFamily>& families) {
  for (F* family :
       {&state, &vcpus, &memslots, &memslot_bytes, &leaves, &table_bytes,
        &table_limit, &deferred, &waiting, &host_calls, &yields, &holds, &held,
        &faults, &fault_duration}) {
    family->MoveTo(families);
  }
}

}  // namespace

const char* NameOf(VmState state) {
  switch (state) {
    case VmState::kCreated:
      return "created";
    case VmState::kRunning:
      return "running";
    case VmState::kPaused:
      return "paused";
    case VmState::kStopped:
      return "stopped";
    case VmState::kFailed:
      return "failed";
  }
  return "unknown";
}

void VmMetrics::Collect(std::vector<prometheus::MetricFamily>& families) const {
  const std::vector<VmInfo> vms = registry_.ListVms();
  auto by_state =
      FamilyBuilder::Gauge("tdpd_vms", "VMs that exist, by their state.");
  for (const VmState state : kStates) {
    int64_t count = 0;
    for (const VmInfo& info : vms) count += info.state == state ? 1 : 0;
    by_state.Add({{"state", NameOf(state)}}, static_cast<double>(count));
  }
  by_state.MoveTo(families);

  VmFamilies of_vms;
  for (const VmInfo& info : vms) {
    // A VM that has gone meanwhile has no numbers any more.
    const absl::StatusOr<std::shared_ptr<Vm>> vm = registry_.FindVm(info.id);
    if (vm.ok()) of_vms.Add(info, **vm);
  }
  of_vms.MoveTo(families);
}

}  // namespace tdp::server
