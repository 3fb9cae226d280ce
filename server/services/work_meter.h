// WorkMeter: what work of the engine costs the client that asked for it.
//
// The unit is a frame of 4 KiB, as in the limits. Neither the frames of the
// range nor those that changed are the cost: a range of a tebibyte with nothing
// in it is passed in microseconds, and one that needs no change is still looked
// at, frame by frame. So it is the frames that changed, or those that a thread
// walks in the processor time that the work took, whichever is more; but never
// by its time more than the range has. Time in which others had the processor
// is nobody's cost. A call that fails pays for its time, too.
//
// Thread safety: none; made, used and destroyed on the thread that works.

#ifndef SERVER_SERVICES_WORK_METER_H_
#define SERVER_SERVICES_WORK_METER_H_

#include <cstdint>

#include "engine/base/types.h"
#include "server/rpc/call_context.h"

namespace tdp::server {

class WorkMeter {
 public:
  // What a thread passes of 4 KiB leaves in a second. An estimate: it decides
  // how fast a client gets into debt, not whether its work is done.
  static constexpr int64_t kFramesPerSecond = 4'000'000;

  // Reports the cost to `context`, which outlives it, at its end.
  explicit WorkMeter(CallContext& context) : context_(context) {}
  WorkMeter(CallContext& context, GfnRange range) : WorkMeter(context) {
    Begin(range);
  }
  WorkMeter(const WorkMeter&) = delete;
  WorkMeter& operator=(const WorkMeter&) = delete;
  ~WorkMeter();

  // Work on a range begins; time counts from the first one on.
  void Begin(GfnRange range);
  // So many frames of the ranges changed.
  void AddChanged(int64_t frames);
  // So many frames were looked at, one by one: that is their cost.
  void AddWalked(int64_t frames) { walked_ += frames; }

 private:
  static constexpr int64_t kNotStarted = -1;

  CallContext& context_;
  int64_t start_ = kNotStarted;  // in processor time of this thread
  int64_t range_frames_ = 0;
  int64_t changed_ = 0;
  int64_t walked_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_WORK_METER_H_
