#include "client/lib/resume.h"

#include <algorithm>

namespace tdp::client {
namespace {

// Frames that an entry of this level stands for.
uint64_t FramesBelow(int level) {
  constexpr int kBitsPerLevel = 9;
  return uint64_t{1} << (kBitsPerLevel * (std::clamp(level, 1, 5) - 1));
}

}  // namespace

AfterBreak Advance(const v1::WatchEventsResponse& response,
                   v1::WatchEventsRequest& next) {
  next.set_start_sequence(response.next_sequence());
  return AfterBreak::kGoOn;
}

AfterBreak Advance(const v1::ReadGuestMemoryResponse& response,
                   v1::ReadGuestMemoryRequest& next) {
  const uint64_t end = response.gpa() + response.data().size();
  next.set_size_bytes(next.size_bytes() -
                      static_cast<int64_t>(end - next.gpa()));
  next.set_gpa(end);
  return next.size_bytes() > 0 ? AfterBreak::kGoOn : AfterBreak::kComplete;
}

AfterBreak Advance(const v1::ReadDirtyLogResponse& response,
                   v1::ReadDirtyLogRequest& next) {
  if (!next.has_range()) return AfterBreak::kCannot;
  next.mutable_range()->set_start_gfn(
      response.dirty().first_gfn() +
      static_cast<uint64_t>(response.dirty().frame_count()));
  return next.range().start_gfn() < next.range().end_gfn()
             ? AfterBreak::kGoOn
             : AfterBreak::kComplete;
}

AfterBreak Advance(const v1::WatchVmStatsResponse&, v1::WatchVmStatsRequest&) {
  return AfterBreak::kGoOn;
}

AfterBreak Advance(const v1::WatchWorkingSetResponse&,
                   v1::WatchWorkingSetRequest&) {
  return AfterBreak::kGoOn;
}

AfterBreak WalkProgress::Advance(v1::WalkRangeResponse& response,
                                 v1::WalkRangeRequest& next) {
  auto& sptes = *response.mutable_sptes();
  const auto was_delivered = [&](const v1::Spte& spte) {
    return std::find(path_.begin(), path_.end(),
                     Seen{spte.base_gfn(), spte.level()}) != path_.end();
  };
  sptes.erase(std::remove_if(sptes.begin(), sptes.end(), was_delivered),
              sptes.end());
  const uint64_t next_gfn = response.next_gfn();
  next.mutable_range()->set_start_gfn(next_gfn);
  for (const v1::Spte& spte : sptes) {
    path_.push_back({spte.base_gfn(), spte.level()});
  }
  std::erase_if(path_, [&](const Seen& seen) {
    return seen.base_gfn + FramesBelow(seen.level) <= next_gfn;
  });
  return next_gfn < next.range().end_gfn() ? AfterBreak::kGoOn
                                           : AfterBreak::kComplete;
}

}  // namespace tdp::client
