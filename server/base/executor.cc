#include "server/base/executor.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace tdp::server {
namespace {

// So many peers at least have tasks of their own when others fill the queue.
constexpr size_t kGuaranteedPart = 256;

// On Linux a nice value is a thread's own. Lowering the priority is always
// allowed.
void LowerOwnPriority(int by) {
  if (by == 0) return;
  const auto self = static_cast<id_t>(gettid());
  (void)setpriority(PRIO_PROCESS, self, getpriority(PRIO_PROCESS, self) + by);
}

}  // namespace

Executor::Executor(const Options& options) : options_(options) {
  absl::MutexLock lock(&join_mutex_);
  for (int i = 0; i < options_.thread_count; ++i) {
    threads_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), absl::StrCat("tdpd-ctl-", i).c_str());
      RunThread(control_);
    });
    threads_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), absl::StrCat("tdpd-bulk-", i).c_str());
      LowerOwnPriority(options_.bulk_nice);
      RunThread(bulk_);
    });
  }
}

Executor::~Executor() { Shutdown(); }

Executor::Admission Executor::Submit(Place place, FairQueue::Task task) {
  LaneState& lane = StateOf(place.lane);
  absl::MutexLock lock(&lane.mutex);
  if (lane.shut_down) return Admission::kShutDown;
  const size_t own = lane.queue.new_count_of(place.peer);
  if (lane.queue.new_count() >= options_.max_queued &&
      own >= options_.max_queued / kGuaranteedPart) {
    return Admission::kQueueFull;
  }
  if (own >= options_.max_queued_per_peer) return Admission::kPeerQueueFull;
  lane.queue.Push(place.peer, FairQueue::Kind::kNew, std::move(task));
  return Admission::kAccepted;
}

bool Executor::Continue(Place place, FairQueue::Task task) {
  LaneState& lane = StateOf(place.lane);
  absl::MutexLock lock(&lane.mutex);
  if (lane.shut_down) return false;
  lane.queue.Push(place.peer, FairQueue::Kind::kNextStep, std::move(task));
  return true;
}

size_t Executor::queued_count() const {
  size_t count = 0;
  for (const LaneState* lane : {&control_, &bulk_}) {
    absl::MutexLock lock(&lane->mutex);
    count += lane->queue.size();
  }
  return count;
}

void Executor::Shutdown() {
  for (LaneState* lane : {&control_, &bulk_}) {
    absl::MutexLock lock(&lane->mutex);
    lane->shut_down = true;
  }
  absl::MutexLock lock(&join_mutex_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Executor::RunThread(LaneState& lane) {
  while (true) {
    FairQueue::Task task;
    {
      absl::MutexLock lock(&lane.mutex,
                           absl::Condition(&lane, &LaneState::HasWork));
      if (lane.queue.empty()) return;
      task = lane.queue.Pop();
    }
    task();
  }
}

}  // namespace tdp::server
