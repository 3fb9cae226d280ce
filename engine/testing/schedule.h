// Schedule: the decisions of a deterministic scheduler, as text that a failing
// test prints and that replays it: "seed:7", or "switch:12:1,40:0" (at decision
// 12 go on with thread 1, at decision 40 with thread 0; else stay).
//
// Thread safety: a value.

#ifndef ENGINE_TESTING_SCHEDULE_H_
#define ENGINE_TESTING_SCHEDULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tdp::testing {

struct Switch {
  uint32_t decision;
  int thread;
};

struct Schedule {
  // Set: decisions are random, and `switches` is empty.
  std::optional<uint64_t> seed;
  // Ascending by decision.
  std::vector<Switch> switches;

  std::string ToString() const;
  // Nothing if the text is no schedule.
  static std::optional<Schedule> Parse(absl::string_view text);
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_SCHEDULE_H_
