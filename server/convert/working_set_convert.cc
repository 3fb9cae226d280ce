#include "server/convert/working_set_convert.h"

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
  return DurationFrom(field, interval);
}

}  // namespace tdp::server
