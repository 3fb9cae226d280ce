// GuardHousekeeper: a thread that wakes up once a second, cuts off clients that
// read nothing, and gives memory that an attack has cost back to the system.

#ifndef SERVER_GUARD_HOUSEKEEPER_H_
#define SERVER_GUARD_HOUSEKEEPER_H_

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tdp::server {

class GuardHousekeeper {
 public:
  GuardHousekeeper();
  GuardHousekeeper(const GuardHousekeeper&) = delete;
  GuardHousekeeper& operator=(const GuardHousekeeper&) = delete;
  ~GuardHousekeeper();

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tdp::server

#endif  // SERVER_GUARD_HOUSEKEEPER_H_
