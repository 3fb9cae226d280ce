// ServiceManager: tells systemd when the daemon serves, that it still does, and
// when it stops. Says nothing where no service manager asks for it.
//
// Thread safety: none, one thread; it has a thread of its own for the watchdog,
// if the unit has WatchdogSec=.

#ifndef SERVER_BASE_SERVICE_MANAGER_H_
#define SERVER_BASE_SERVICE_MANAGER_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tdp::server {

class ServiceManager {
 public:
  // Has `answered` called once, on any thread, by what must not be stuck.
  // Not called again before that.
  using Probe = std::function<void(std::function<void()> answered)>;

  ServiceManager() = default;
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;
  // What was asked and has not answered yet may do so later.
  ~ServiceManager();

  // The daemon serves; `status` is what `systemctl status` shows.
  void Ready(absl::string_view status);
  // From now on asks `probe` twice in the time after which the service manager
  // kills the daemon, and passes each answer on.
  void StartWatchdog(Probe probe);
  // The daemon begins to stop. Ends the watchdog first: `probe` is not called
  // any more. The service manager's patience starts anew.
  void Stopping();

 private:
  // Shared with answers, which may come when this object is gone.
  struct Watch;

  static void RunWatchdog(const Probe& probe, absl::Duration interval,
                          std::shared_ptr<Watch> watch);
  void StopWatchdog();

  std::shared_ptr<Watch> watch_;
  std::thread thread_;
};

}  // namespace tdp::server

#endif  // SERVER_BASE_SERVICE_MANAGER_H_
