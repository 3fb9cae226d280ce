// StartThread: a thread, or an error where the host gives none.
//
// std::thread throws when a limit on processes is reached; that is a client's
// doing as much as the host's, and must not end the daemon.

#ifndef ENGINE_SYNC_THREAD_H_
#define ENGINE_SYNC_THREAD_H_

#include <pthread.h>

#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "engine/base/errors.h"

namespace tdp {

// Starts `body` in `*thread`, which is not joinable yet. `name` is what
// debuggers show: 15 characters. LIMIT_REACHED if the host gives no thread.
template <typename Body>
absl::Status StartThread(const std::string& name, Body body,
                         std::thread* thread) {
  try {
    *thread = std::thread(std::move(body));
  } catch (const std::system_error& error) {
    return MakeError(ErrorReason::kLimitReached,
                     "the host gives the daemon no more threads; raise its "
                     "limit (TasksMax, RLIMIT_NPROC) or run fewer vCPUs",
                     {{"limit", "host_threads"}, {"thread", name}});
  }
  pthread_setname_np(thread->native_handle(), name.c_str());
  return absl::OkStatus();
}

}  // namespace tdp

#endif  // ENGINE_SYNC_THREAD_H_
