#include "client/tdpbench/mix.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tdp::client {
namespace {

constexpr std::array<const char*, kOperationCount> kNames = {
    "walk_gfn", "walk_frames", "walk_range", "stream_ops", "map",
    "zap",      "age",         "get_vm",     "get_stats",  "get_info"};
constexpr uint32_t kMaxWeight = 1000000;

}  // namespace

const char* OperationName(Operation operation) {
  return kNames[static_cast<size_t>(operation)];
}

std::string OperationNames() { return absl::StrJoin(kNames, ", "); }

absl::StatusOr<Mix> Mix::Parse(absl::string_view text) {
  Mix mix;
  uint64_t end = 0;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const auto found = std::find(kNames.begin(), kNames.end(), words.first);
    if (found == kNames.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the mix has no operation \"", words.first,
                       "\"; it has ", OperationNames()));
    }
    const auto operation = static_cast<Operation>(found - kNames.begin());
    if (mix.Has(operation)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the mix names ", words.first, " twice"));
    }
    uint32_t weight = 1;
    if (words.first.size() != part.size() &&
        (!absl::SimpleAtoi(words.second, &weight) || weight == 0 ||
         weight > kMaxWeight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the weight of ", words.first, " is \"", words.second,
                       "\"; it must be 1 to ", kMaxWeight));
    }
    end += weight;
    mix.parts_.push_back({operation, end});
  }
  return mix;
}

Operation Mix::Pick(uint64_t random) const {
  const uint64_t at = random % parts_.back().end;
  return std::find_if(parts_.begin(), parts_.end(),
                      [at](const Part& part) { return at < part.end; })
      ->operation;
}

bool Mix::Has(Operation operation) const {
  return std::any_of(
      parts_.begin(), parts_.end(),
      [operation](const Part& part) { return part.operation == operation; });
}

}  // namespace tdp::client
