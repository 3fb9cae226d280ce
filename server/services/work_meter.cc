#include "server/services/work_meter.h"

#include <algorithm>

#include "engine/base/types.h"
#include "server/base/monotonic_time.h"

namespace tdp::server {
namespace {

// More than a host has. So many operations as a message may have do not wrap.
constexpr int64_t kMaxFrames = int64_t{1} << 48;

int64_t FramesIn(int64_t nanoseconds) {
  constexpr int64_t kNanosecondsPerFrame =
      1'000'000'000 / WorkMeter::kFramesPerSecond;
  return nanoseconds / kNanosecondsPerFrame;
}

}  // namespace

WorkMeter::~WorkMeter() {
  int64_t work = changed_;
  // Two readings of the clock cost more than a small range.
  if (work < range_frames_) {
    work = std::max(
        work, std::min(FramesIn(ThreadNanoseconds() - start_), range_frames_));
  }
  work += walked_;
  if (work > 0) context_.AddWork(work);
}

void WorkMeter::Begin(GfnRange range) {
  if (range.empty()) return;
  if (start_ == kNotStarted) start_ = ThreadNanoseconds();
  range_frames_ += static_cast<int64_t>(
      std::min(range.size(), static_cast<uint64_t>(kMaxFrames)));
}

void WorkMeter::AddChanged(int64_t frames) {
  changed_ += std::clamp(frames, int64_t{0}, kMaxFrames);
}

}  // namespace tdp::server
