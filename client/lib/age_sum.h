// Joins the answers of several AgeRange calls into one, and reads a joined one.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_AGE_SUM_H_
#define CLIENT_LIB_AGE_SUM_H_

#include "absl/functional/function_ref.h"
#include "client/lib/address.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// Adds the count of `part` to `sum` and takes over its `next_gfn`. A bitmap is
// joined with that of `sum`, which then covers `range` up to `next_gfn`; bits
// of other frames are left out.
void AddAge(const v1::AgeRangeResponse& part, FrameRange range,
            v1::AgeRangeResponse& sum);

// Calls `run` with each longest run of frames whose bits are set, in order.
void ForEachRun(const v1::Bitmap& bitmap,
                absl::FunctionRef<void(FrameRange)> run);

}  // namespace tdp::client

#endif  // CLIENT_LIB_AGE_SUM_H_
