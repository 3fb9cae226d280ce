#include "server/base/service_manager.h"

#include <pthread.h>
#include <systemd/sd-daemon.h>

#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace tdp::server {
namespace {

// A message that does not arrive changes nothing here: the service manager
// draws its conclusions.
void Notify(const std::string& message) {
  sd_notify(/*unset_environment=*/0, message.c_str());
}

}  // namespace

struct ServiceManager::Watch {
  absl::Mutex mutex;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  bool answered ABSL_GUARDED_BY(mutex) = false;

  bool HasNews() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return answered || ended;
  }
};

ServiceManager::~ServiceManager() { StopWatchdog(); }

void ServiceManager::Ready(absl::string_view status) {
  Notify(absl::StrCat("READY=1\nSTATUS=", status));
}

void ServiceManager::StartWatchdog(Probe probe) {
  uint64_t limit_us = 0;
  if (sd_watchdog_enabled(/*unset_environment=*/0, &limit_us) <= 0) return;
  watch_ = std::make_shared<Watch>();
  thread_ = std::thread(
      [probe = std::move(probe),
       interval = absl::Microseconds(static_cast<int64_t>(limit_us / 2)),
       watch = watch_] {
        pthread_setname_np(pthread_self(), "tdpd-watchdog");
        RunWatchdog(probe, interval, watch);
      });
}

void ServiceManager::Stopping() {
  StopWatchdog();
  Notify("STOPPING=1\nWATCHDOG=1\nSTATUS=draining");
}

void ServiceManager::RunWatchdog(const Probe& probe, absl::Duration interval,
                                 std::shared_ptr<Watch> watch) {
  while (true) {
    {
      absl::MutexLock lock(&watch->mutex);
      watch->answered = false;
    }
    probe([watch] {
      absl::MutexLock lock(&watch->mutex);
      watch->answered = true;
    });
    const absl::Time next = absl::Now() + interval;
    {
      // As long as it takes: to be late is for the service manager to notice.
      absl::MutexLock lock(&watch->mutex);
      watch->mutex.Await(absl::Condition(watch.get(), &Watch::HasNews));
      if (watch->ended) return;
    }
    Notify("WATCHDOG=1");
    absl::MutexLock lock(&watch->mutex);
    if (watch->mutex.AwaitWithDeadline(absl::Condition(&watch->ended), next)) {
      return;
    }
  }
}

void ServiceManager::StopWatchdog() {
  if (!thread_.joinable()) return;
  {
    absl::MutexLock lock(&watch_->mutex);
    watch_->ended = true;
  }
  thread_.join();
}

}  // namespace tdp::server
