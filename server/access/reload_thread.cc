#include "server/access/reload_thread.h"

#include <pthread.h>

#include <utility>

#include "absl/time/time.h"

namespace tdp::server {
namespace {

// Looking at four files takes some microseconds.
constexpr absl::Duration kPeriod = absl::Milliseconds(500);

}  // namespace

ReloadThread::ReloadThread(std::vector<std::function<void()>> refreshes)
    : refreshes_(std::move(refreshes)), thread_([this] { Run(); }) {}

ReloadThread::~ReloadThread() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
}

void ReloadThread::Run() {
  pthread_setname_np(pthread_self(), "tdpd-reload");
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stop_), kPeriod)) return;
    }
    for (const auto& refresh : refreshes_) refresh();
  }
}

}  // namespace tdp::server
