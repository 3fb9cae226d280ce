// Request ids: what joins a line of our log with one of the caller's.
//
// Thread safety: all, from any thread.

#ifndef SERVER_OBSERVE_REQUEST_ID_H_
#define SERVER_OBSERVE_REQUEST_ID_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tdp::server {

// The metadata key by which a caller names its call, and learns our name of it.
inline constexpr char kRequestIdKey[] = "x-request-id";
inline constexpr size_t kMaxRequestIdBytes = 64;

// Whether a caller's id is fit for a log: 1 to 64 of [A-Za-z0-9._-].
bool IsCleanRequestId(absl::string_view id);

class RequestIdMaker {
 public:
  RequestIdMaker();
  // 16 hexadecimal digits, each time others.
  std::string Next();

 private:
  std::atomic<uint64_t> next_;
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_REQUEST_ID_H_
