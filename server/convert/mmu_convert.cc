#include "server/convert/mmu_convert.h"

#include "server/convert/bitmap_convert.h"
#include "server/convert/common_convert.h"

namespace tdp::server {

void ToProto(const SpteView& view, v1::Spte* out) {
  out->set_level(ToProto(view.level));
  out->set_base_gfn(view.base_gfn.value());
  out->set_raw(view.raw);
  out->set_present(view.present);
  out->set_leaf(view.leaf);
  out->set_frozen(view.frozen);
  // The rest means something for a leaf only; leaving it out keeps long walks
  // of tables small.
  if (!view.present || !view.leaf || view.frozen) return;
  out->set_pfn(view.pfn.value());
  ToProto(view.access, out->mutable_access());
  out->set_accessed(view.accessed);
  out->set_dirty(view.dirty);
  out->set_host_writable(view.host_writable);
  out->set_mmu_writable(view.mmu_writable);
}

void ToProto(const AgeResult& result, v1::AgeRangeResponse* out) {
  out->set_next_gfn(result.next_gfn.value());
  out->set_young_frame_count(result.young_frame_count);
  if (result.young.has_value()) ToProto(*result.young, out->mutable_young());
}

void ToProto(const AuditResult& result, v1::AuditRangeResponse* out) {
  out->set_next_gfn(result.next_gfn.value());
  out->set_compared_frame_count(result.compared_frame_count);
  out->set_divergent_frame_count(result.divergent_frame_count);
  out->set_host_stricter_frame_count(result.host_stricter_frame_count);
  for (const DivergenceView& view : result.divergences) {
    v1::Divergence* divergence = out->add_divergences();
    divergence->set_gfn(view.gfn.value());
    ToProto(view.engine, divergence->mutable_engine());
    divergence->set_host_present(view.host_present);
    divergence->set_host_writable(view.host_writable);
  }
}

void ToProto(const VmStats& stats, v1::VmStats* out) {
  ToProto(stats.sample_time, out->mutable_sample_time());
  out->set_leaf_4k_count(stats.leaf_4k_count);
  out->set_leaf_2m_count(stats.leaf_2m_count);
  out->set_leaf_1g_count(stats.leaf_1g_count);
  out->set_page_table_bytes(stats.page_table_bytes);
  out->set_deferred_free_count(stats.deferred_free_count);
  out->set_fault_fixed_count(stats.fault_fixed_count);
  out->set_fault_spurious_count(stats.fault_spurious_count);
  out->set_fault_retry_count(stats.fault_retry_count);
  out->set_host_call_count(stats.host_call_count);
  out->set_yield_count(stats.yield_count);
  out->set_exclusive_hold_count(stats.exclusive_hold_count);
  out->set_exclusive_hold_ns(stats.exclusive_hold_nanoseconds);
  out->set_fault_write_protected_count(stats.fault_write_protected_count);
  out->set_fault_unbacked_count(stats.fault_unbacked_count);
  out->set_fault_source_error_count(stats.fault_source_error_count);
  out->set_waiting_access_count(stats.waiting_access_count);
  for (const FaultOutcomeStats& outcome : stats.fault_outcomes) {
    v1::FaultOutcome* entry = out->add_fault_outcomes();
    entry->set_outcome(outcome.outcome);
    entry->set_fault_count(outcome.fault_count);
    entry->mutable_latency_us_log2_counts()->Add(
        outcome.latency_us_log2_counts.begin(),
        outcome.latency_us_log2_counts.end());
  }
}

}  // namespace tdp::server
