// Times that nobody sets: they only go forward, whatever is done to the clock
// on the wall. In nanoseconds from an unspecified start.
//
// Thread safety: any thread.

#ifndef SERVER_BASE_MONOTONIC_TIME_H_
#define SERVER_BASE_MONOTONIC_TIME_H_

#include <time.h>

#include <cstdint>
#include <functional>

namespace tdp::server {

// For those whose tests say what time it is.
using MonotonicClock = std::function<int64_t()>;

inline int64_t ReadClock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);  // fails only for clocks that do not exist
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

inline int64_t MonotonicNanoseconds() { return ReadClock(CLOCK_MONOTONIC); }
// Moves every few milliseconds, and costs a fifth.
inline int64_t CoarseMonotonicNanoseconds() {
  return ReadClock(CLOCK_MONOTONIC_COARSE);
}
// What the calling thread has had of a processor. A system call.
inline int64_t ThreadNanoseconds() {
  return ReadClock(CLOCK_THREAD_CPUTIME_ID);
}

}  // namespace tdp::server

#endif  // SERVER_BASE_MONOTONIC_TIME_H_
