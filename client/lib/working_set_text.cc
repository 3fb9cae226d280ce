#include "client/lib/working_set_text.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/lib/address.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

constexpr int kBarWidth = 40;
constexpr int kMinBarWidth = 8;  // as wide as the title

std::string AgeText(const google::protobuf::Duration& age) {
  const absl::Duration duration =
      absl::Seconds(age.seconds()) + absl::Nanoseconds(age.nanos());
  return duration == absl::ZeroDuration() ? "0s"
                                          : absl::FormatDuration(duration);
}

std::string FrameSizeText(int64_t frames) {
  return RoundSizeText(static_cast<uint64_t>(frames) << kFrameShift);
}

std::string Bar(int64_t frames, int64_t longest, int width) {
  if (frames <= 0) return "|";
  const double length = static_cast<double>(frames) /
                        static_cast<double>(longest) *
                        static_cast<double>(width);
  return absl::StrCat("|",
                      std::string(std::max(1, static_cast<int>(length)), '#'));
}

}  // namespace

std::string WorkingSetText(const v1::WorkingSet& working_set,
                           std::optional<int> columns) {
  int64_t total = 0;
  int64_t longest = 0;
  for (const v1::WorkingSet::Bucket& bucket : working_set.buckets()) {
    total += bucket.frame_count();
    longest = std::max(longest, bucket.frame_count());
  }
  std::ostringstream out;
  out << google::protobuf::util::TimeUtil::ToString(working_set.scan_time())
      << "  " << CountText(total, "frame") << " (" << FrameSizeText(total)
      << ")\n";
  std::vector<Column> titles = {{"AGE"},
                                {"FRAMES", Align::kRight},
                                {"SIZE", Align::kRight},
                                {"SHARE", Align::kRight},
                                {"WORKING-SET", Align::kRight}};
  Table measured(titles);
  std::vector<std::vector<std::string>> rows;
  int64_t sum = 0;
  for (int i = 0; i < working_set.buckets_size(); ++i) {
    const v1::WorkingSet::Bucket& bucket = working_set.buckets(i);
    sum += bucket.frame_count();
    const bool last = i + 1 == working_set.buckets_size();
    const std::string end =
        last ? "" : AgeText(working_set.buckets(i + 1).min_age());
    rows.push_back({absl::StrCat(AgeText(bucket.min_age()), "..", end),
                    absl::StrCat(bucket.frame_count()),
                    FrameSizeText(bucket.frame_count()),
                    ShareText(bucket.frame_count(), total),
                    absl::StrCat(last ? "all" : absl::StrCat("< ", end), ": ",
                                 FrameSizeText(sum))});
    measured.AddRow(rows.back());
  }
  int bar_width = kBarWidth;
  if (columns.has_value()) {
    // Two spaces and "|" stand between.
    const int before = static_cast<int>(measured.Width()) + 3;
    bar_width = std::max(kMinBarWidth, *columns - before);
  }
  titles.push_back({"HISTOGRAM"});
  Table table(std::move(titles));
  for (int i = 0; i < working_set.buckets_size(); ++i) {
    std::vector<std::string>& row = rows[static_cast<size_t>(i)];
    row.push_back(
        Bar(working_set.buckets(i).frame_count(), longest, bar_width));
    table.AddRow(std::move(row));
  }
  table.Flush(out);
  return out.str();
}

}  // namespace tdp::client
