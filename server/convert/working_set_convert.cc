#include "server/convert/working_set_convert.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/convert/common_convert.h"

namespace tdp::server {

void ToProto(const WorkingSet& set, v1::WorkingSet* out) {
  ToProto(set.scan_time, out->mutable_scan_time());
  for (const WorkingSetBucket& bucket : set.buckets) {
    v1::WorkingSet::Bucket& added = *out->add_buckets();
    ToProto(bucket.min_age, added.mutable_min_age());
    added.set_frame_count(bucket.frame_count);
  }
}

absl::StatusOr<absl::Duration> ScanIntervalFrom(
    absl::string_view field, bool present,
    const google::protobuf::Duration& interval) {
  if (!present) return absl::Milliseconds(limits::kDefaultScanIntervalMs);
  const int64_t seconds = interval.seconds();
  const int32_t nanos = interval.nanos();
  constexpr int32_t kSecond = 1'000'000'000;
  if (nanos <= -kSecond || nanos >= kSecond || (seconds < 0 && nanos > 0) ||
      (seconds > 0 && nanos < 0)) {
    return FieldError(field,
                      absl::StrCat(seconds, " seconds and ", nanos, " nanos"),
                      "less than a second of nanos, of the same sign as the "
                      "seconds");
  }
  return absl::Seconds(seconds) + absl::Nanoseconds(nanos);
}

}  // namespace tdp::server
