// Schedule: when each call of a load should start.
//
// A closed loop starts a call as soon as there is room for it. An open loop
// starts calls at a rate, whatever the daemon does: a call that has to wait for
// room is late, and its latency counts from when it should have started.
//
// Thread safety: one thread.

#ifndef CLIENT_TDPBENCH_SCHEDULE_H_
#define CLIENT_TDPBENCH_SCHEDULE_H_

#include <chrono>
#include <cstdint>
#include <optional>

namespace tdp::client {

// Of a clock that nobody sets: latencies would jump with it.
using SteadyTime = std::chrono::steady_clock::time_point;

class Schedule {
 public:
  // `rate` is in calls a second; 0 makes a closed loop.
  Schedule(SteadyTime start, SteadyTime end, double rate)
      : start_(start), end_(end), rate_(rate) {}

  // When the next call should start: now or earlier, or no call is due. After
  // the end, those of an open loop that should have started before.
  std::optional<SteadyTime> TakeDue(SteadyTime now);
  // When to ask again at the latest if there is room.
  SteadyTime NextTime(SteadyTime now) const;
  // Calls that should have started before the end and have not.
  int64_t MissedCount() const;

 private:
  SteadyTime TimeOf(int64_t call) const;

  const SteadyTime start_;
  const SteadyTime end_;
  const double rate_;
  int64_t taken_ = 0;
};

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_SCHEDULE_H_
