#include "engine/testing/schedule.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tdp::testing {

std::string Schedule::ToString() const {
  if (seed.has_value()) return absl::StrCat("seed:", *seed);
  std::string text = "switch:";
  for (size_t i = 0; i < switches.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",", switches[i].decision, ":",
                    switches[i].thread);
  }
  return text;
}

std::optional<Schedule> Schedule::Parse(absl::string_view text) {
  Schedule schedule;
  if (absl::ConsumePrefix(&text, "seed:")) {
    uint64_t seed = 0;
    if (!absl::SimpleAtoi(text, &seed)) return std::nullopt;
    schedule.seed = seed;
    return schedule;
  }
  if (!absl::ConsumePrefix(&text, "switch:")) return std::nullopt;
  if (text.empty()) return schedule;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(part, ':');
    Switch next{};
    if (fields.size() != 2 || !absl::SimpleAtoi(fields[0], &next.decision) ||
        !absl::SimpleAtoi(fields[1], &next.thread)) {
      return std::nullopt;
    }
    schedule.switches.push_back(next);
  }
  return schedule;
}

}  // namespace tdp::testing
