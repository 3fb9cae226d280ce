// Joins the answers of several AgeRange calls into one.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_AGE_SUM_H_
#define CLIENT_LIB_AGE_SUM_H_

#include "client/lib/address.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::client {

// Adds the count of `part` to `sum` and takes over its `next_gfn`. A bitmap is
// joined with that of `sum`, which then covers `range` up to `next_gfn`; bits
// of other frames are left out.
void AddAge(const v1::AgeRangeResponse& part, FrameRange range,
            v1::AgeRangeResponse& sum);

}  // namespace tdp::client

#endif  // CLIENT_LIB_AGE_SUM_H_
