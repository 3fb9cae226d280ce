// RequestCache: makes a create call with a request id safe to repeat.
//
// A repeated id gets the first response again; with other content it is
// refused. Only successes are remembered, so that a failed call may be repeated
// under its id. A response is remembered for 10 minutes, and the last 1024 are.
//
// Thread safety: all methods, from any thread. The work runs without a lock.

#ifndef SERVER_CONVERT_REQUEST_CACHE_H_
#define SERVER_CONVERT_REQUEST_CACHE_H_

#include <deque>
#include <functional>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"

namespace tdp::server {

class RequestCache {
 public:
  using Clock = std::function<absl::Time()>;

  explicit RequestCache(Clock clock = absl::Now);

  // Refuses an id that is neither empty nor a UUID of version 4.
  static absl::Status CheckId(absl::string_view request_id);

  // Runs `work`, which fills `response`, unless `request_id` was seen before.
  // With an empty id it always runs. While another call with the id runs, the
  // answer is OPERATION_CONFLICT.
  absl::Status Run(absl::string_view request_id,
                   const google::protobuf::Message& request,
                   google::protobuf::Message* response,
                   absl::FunctionRef<absl::Status()> work)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::string request;  // identifies method and content
    bool done = false;
    std::string response;
    absl::Time done_time;
  };

  void DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock clock_;
  absl::Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ ABSL_GUARDED_BY(mutex_);
  // Ids of finished entries, oldest first.
  std::deque<std::string> by_age_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_CONVERT_REQUEST_CACHE_H_
