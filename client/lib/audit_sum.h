// Joins the answers of several AuditRange calls into one.
//
// Thread safety: free function on values.

#ifndef CLIENT_LIB_AUDIT_SUM_H_
#define CLIENT_LIB_AUDIT_SUM_H_

#include "tdp/v1/mmu_service.pb.h"

namespace tdp::client {

// Adds the counts of `part` to `sum`, takes over its `next_gfn`, and appends
// its divergences as long as `sum` has fewer than `max_divergences`.
void AddAudit(const v1::AuditRangeResponse& part, int max_divergences,
              v1::AuditRangeResponse& sum);

}  // namespace tdp::client

#endif  // CLIENT_LIB_AUDIT_SUM_H_
