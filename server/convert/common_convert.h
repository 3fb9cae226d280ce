// The values that every service converts: times, durations, accesses, ranges,
// levels.
//
// `field` is the path of the API field that an error names, e.g. "range".

#ifndef SERVER_CONVERT_COMMON_CONVERT_H_
#define SERVER_CONVERT_COMMON_CONVERT_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/types.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::server {

void ToProto(absl::Time time, google::protobuf::Timestamp* out);
// A finite duration, whole nanoseconds.
void ToProto(absl::Duration duration, google::protobuf::Duration* out);
void ToProto(Access access, v1::Access* out);
v1::PageLevel ToProto(PageLevel level);

// Refuses what is no duration; its size is for the caller to judge.
absl::StatusOr<absl::Duration> DurationFrom(
    absl::string_view field, const google::protobuf::Duration& duration);

// A range that is missing, empty or reversed is refused; whether its frames
// exist is the engine's question.
absl::StatusOr<GfnRange> RangeFrom(absl::string_view field, bool present,
                                   const v1::GfnRange& range);

// An access that is missing is refused: its default, no access at all, is too
// much to be meant by leaving it out.
absl::StatusOr<Access> AccessFrom(absl::string_view field, bool present,
                                  const v1::Access& access);

// Any level, or `if_unspecified`.
absl::StatusOr<PageLevel> LevelFrom(absl::string_view field,
                                    v1::PageLevel level,
                                    PageLevel if_unspecified);
// 0 for unspecified, else the number of any level, 1 (4K) to 5 (256T); which of
// them a verb takes is the engine's question.
absl::StatusOr<int> LevelNumberFrom(absl::string_view field,
                                    v1::PageLevel level);
// 0 for unspecified, else 1 (4K) or 2 (2M); others are refused.
absl::StatusOr<int> SmallLevelFrom(absl::string_view field,
                                   v1::PageLevel level);

// FIELD_INVALID for an enum value that `field` does not take.
absl::Status EnumError(absl::string_view field, int value,
                       absl::string_view name, absl::string_view rule);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_COMMON_CONVERT_H_
