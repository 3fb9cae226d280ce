#include "client/lib/audit_sum.h"

namespace tdp::client {

void AddAudit(const v1::AuditRangeResponse& part, int max_divergences,
              v1::AuditRangeResponse& sum) {
  sum.set_next_gfn(part.next_gfn());
  sum.set_compared_frame_count(sum.compared_frame_count() +
                               part.compared_frame_count());
  sum.set_divergent_frame_count(sum.divergent_frame_count() +
                                part.divergent_frame_count());
  sum.set_host_stricter_frame_count(sum.host_stricter_frame_count() +
                                    part.host_stricter_frame_count());
  for (const v1::Divergence& divergence : part.divergences()) {
    if (sum.divergences_size() >= max_divergences) break;
    *sum.add_divergences() = divergence;
  }
}

}  // namespace tdp::client
