// Where a stream goes on after it broke: for each method, what the next request
// is once a message has been delivered.
//
// Thread safety: free functions on values; a WalkProgress belongs to one call.

#ifndef CLIENT_LIB_RESUME_H_
#define CLIENT_LIB_RESUME_H_

#include <cstdint>
#include <vector>

#include "tdp/v1/dirty_log_service.pb.h"
#include "tdp/v1/event_service.pb.h"
#include "tdp/v1/guest_memory_service.pb.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/stats_service.pb.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::client {

enum class AfterBreak {
  kGoOn,      // with the request as it now is
  kComplete,  // nothing is left to ask for
  kCannot,    // the request cannot say what is left
};

// Each moves `next` behind `response`.
AfterBreak Advance(const v1::WatchEventsResponse& response,
                   v1::WatchEventsRequest& next);
AfterBreak Advance(const v1::ReadGuestMemoryResponse& response,
                   v1::ReadGuestMemoryRequest& next);
// Cannot go on if the request names no range, as the end of the memslot is not
// known here.
AfterBreak Advance(const v1::ReadDirtyLogResponse& response,
                   v1::ReadDirtyLogRequest& next);
// Samples: those in between are gone.
AfterBreak Advance(const v1::WatchVmStatsResponse& response,
                   v1::WatchVmStatsRequest& next);
AfterBreak Advance(const v1::WatchWorkingSetResponse& response,
                   v1::WatchWorkingSetRequest& next);

// A walk that starts in the middle begins with the tables on the path, which
// the walk before has shown already: they are left out.
class WalkProgress {
 public:
  // Takes out of `response` what was delivered before, and moves `next` behind
  // the rest.
  AfterBreak Advance(v1::WalkRangeResponse& response,
                     v1::WalkRangeRequest& next);

 private:
  struct Seen {
    uint64_t base_gfn;
    int level;

    friend bool operator==(const Seen&, const Seen&) = default;
  };

  // What was delivered and reaches beyond where the walk goes on.
  std::vector<Seen> path_;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_RESUME_H_
