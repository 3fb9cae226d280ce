// The working set, from the engine to the API, and the interval of its watchers
// the other way.

#ifndef SERVER_CONVERT_WORKING_SET_CONVERT_H_
#define SERVER_CONVERT_WORKING_SET_CONVERT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/vm/vm_types.h"
#include "google/protobuf/duration.pb.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::server {

void ToProto(const WorkingSet& set, v1::WorkingSet* out);

// The time between scans, limits::kDefaultScanIntervalMs if it is not present.
// How long it may be is the engine's question.
absl::StatusOr<absl::Duration> ScanIntervalFrom(
    absl::string_view field, bool present,
    const google::protobuf::Duration& interval);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_WORKING_SET_CONVERT_H_
