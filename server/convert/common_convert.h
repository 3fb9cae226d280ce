// The values that every service converts: times, accesses, ranges, levels.
//
// `field` is the path of the API field that an error names, e.g. "range".

#ifndef SERVER_CONVERT_COMMON_CONVERT_H_
#define SERVER_CONVERT_COMMON_CONVERT_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/types.h"
#include "google/protobuf/timestamp.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::server {

void ToProto(absl::Time time, google::protobuf::Timestamp* out);
void ToProto(Access access, v1::Access* out);
v1::PageLevel ToProto(PageLevel level);

// A range that is missing, empty or reversed is refused; whether its frames
// exist is the engine's question.
absl::StatusOr<GfnRange> RangeFrom(absl::string_view field, bool present,
                                   const v1::GfnRange& range);

// Any level, or `if_unspecified`.
absl::StatusOr<PageLevel> LevelFrom(absl::string_view field,
                                    v1::PageLevel level,
                                    PageLevel if_unspecified);
// 0 for unspecified, else 1 (4K) or 2 (2M); others are refused.
absl::StatusOr<int> SmallLevelFrom(absl::string_view field,
                                   v1::PageLevel level);

// FIELD_INVALID for an enum value that `field` does not take.
absl::Status EnumError(absl::string_view field, int value,
                       absl::string_view name, absl::string_view rule);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_COMMON_CONVERT_H_
