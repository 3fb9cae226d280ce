#include "client/lib/working_set_text.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

// Buckets by lower bound in milliseconds and frames.
v1::WorkingSet MakeWorkingSet(
    const std::vector<std::pair<int64_t, int64_t>>& buckets) {
  v1::WorkingSet working_set;
  working_set.mutable_scan_time()->set_seconds(1700000000);
  for (const auto& [min_age_ms, frame_count] : buckets) {
    v1::WorkingSet::Bucket& bucket = *working_set.add_buckets();
    bucket.mutable_min_age()->set_seconds(min_age_ms / 1000);
    bucket.mutable_min_age()->set_nanos(
        static_cast<int32_t>(min_age_ms % 1000) * 1000000);
    bucket.set_frame_count(frame_count);
  }
  return working_set;
}

TEST(WorkingSetTextTest, EachBucketHasItsAgesShareAndTheSumSoFar) {
  EXPECT_EQ(
      WorkingSetText(
          MakeWorkingSet({{0, 1024}, {1500, 512}, {60000, 0}, {120000, 2560}}),
          67),
      "2023-11-14T22:13:20Z  4096 frames (16.0M)\n"
      "AGE       FRAMES   SIZE  SHARE   WORKING-SET  HISTOGRAM\n"
      "0s..1.5s    1024   4.0M  25.0%  < 1.5s: 4.0M  |########\n"
      "1.5s..1m     512   2.0M  12.5%    < 1m: 6.0M  |####\n"
      "1m..2m         0      0   0.0%    < 2m: 6.0M  |\n"
      "2m..        2560  10.0M  62.5%    all: 16.0M  |####################\n");
}

TEST(WorkingSetTextTest, FewFramesAreAShortBarAndNoneIsNoBar) {
  const std::string text =
      WorkingSetText(MakeWorkingSet({{0, 1}, {1000, 1000000}}), std::nullopt);
  EXPECT_THAT(text, HasSubstr("  |#\n"));
  EXPECT_THAT(text, HasSubstr("  |" + std::string(40, '#') + "\n"));
}

TEST(WorkingSetTextTest,
     LinesTakeAllColumnsAndBarsAreNeverShorterThanTheTitle) {
  // As the daemon's: 19 buckets, and a TiB in one of them.
  std::vector<std::pair<int64_t, int64_t>> buckets = {{0, 123456789}};
  for (int i = 0; i < 18; ++i)
    buckets.push_back({int64_t{100} << i, 268435456});
  const v1::WorkingSet working_set = MakeWorkingSet(buckets);
  const auto longest = [&](int columns) {
    size_t length = 0;
    for (const absl::string_view line :
         absl::StrSplit(WorkingSetText(working_set, columns), '\n')) {
      length = std::max(length, line.size());
    }
    return length;
  };
  for (const size_t columns : {90, 100, 200}) {
    EXPECT_EQ(longest(static_cast<int>(columns)), columns);
  }
  EXPECT_EQ(longest(1), longest(40));
  EXPECT_THAT(WorkingSetText(working_set, 1), HasSubstr("|########\n"));
}

TEST(WorkingSetTextTest, AVmWithoutMemoryHasNoShares) {
  EXPECT_EQ(WorkingSetText(MakeWorkingSet({{0, 0}}), std::nullopt),
            "2023-11-14T22:13:20Z  0 frames (0)\n"
            "AGE   FRAMES  SIZE  SHARE  WORKING-SET  HISTOGRAM\n"
            "0s..       0     0      -       all: 0  |\n");
  EXPECT_THAT(WorkingSetText(MakeWorkingSet({}), std::nullopt),
              HasSubstr("0 frames (0)\nAGE"));
}

}  // namespace
}  // namespace tdp::client
