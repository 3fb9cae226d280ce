// What a client stream has done before it failed.

#ifndef SERVER_SERVICES_STREAM_PROGRESS_H_
#define SERVER_SERVICES_STREAM_PROGRESS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

// `status` with the metadata `key`: `done` of the messages before, and what
// `status` itself says under `key` about the message that failed. `rest` goes
// on after the number in the error's message, e.g. "bytes of the stream are in
// memory". OK stays OK.
absl::Status WithProgress(const absl::Status& status, absl::string_view key,
                          int64_t done, absl::string_view rest);

}  // namespace tdp::server

#endif  // SERVER_SERVICES_STREAM_PROGRESS_H_
