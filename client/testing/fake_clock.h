// Time for the tests of retries: nobody waits, and every wait is noted.
//
// Thread safety: one thread.

#ifndef CLIENT_TESTING_FAKE_CLOCK_H_
#define CLIENT_TESTING_FAKE_CLOCK_H_

#include <vector>

#include "absl/time/time.h"
#include "client/lib/retry.h"

namespace tdp::client {

struct FakeClock {
  absl::Time time = absl::UnixEpoch() + absl::Hours(1000);
  std::vector<absl::Duration> waits;

  // REQUIRES: this outlives it. Backoffs are half of what they could be.
  RetryClock Clock() {
    return {.now = [this] { return time; },
            .sleep =
                [this](absl::Duration wait) {
                  waits.push_back(wait);
                  time += wait;
                },
            .random = [] { return 0.0; }};
  }
};

}  // namespace tdp::client

#endif  // CLIENT_TESTING_FAKE_CLOCK_H_
