// Pager: the threads that answer the faults of a VM.
//
// All pager threads wait on one epoll instance; an event is read by one of
// them. They never wait for a disk: a fault that has to is handed to loader
// threads, so that no other fault queues behind it. Only faults queue there:
// work in the background loads its frames in threads of its own.
//
// Thread safety: all methods, from any thread. The handler and the tasks run
// several at a time.
//
// Invariants: a handler runs for a memslot only while the pager, or the thread
// that runs it, holds a reference on the memslot.

#ifndef ENGINE_VM_PAGER_H_
#define ENGINE_VM_PAGER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "engine/memory/memslot.h"
#include "engine/sync/mutex.h"

namespace tdp {

class Pager {
 public:
  // Reads and answers the events of a memslot that has had one, until there are
  // no more. Each vCPU that sleeps must be awake, or be woken by somebody else,
  // soon after.
  using Handler = std::function<void(const std::shared_ptr<Memslot>&)>;

  static absl::StatusOr<std::unique_ptr<Pager>> Start(int thread_count,
                                                      Handler handler);
  // Ends the threads, and drops tasks that have not begun. REQUIRES: nobody
  // sleeps in a memslot that was added.
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  // Faults on the memslot are answered from now on, until Remove().
  absl::Status Add(std::shared_ptr<Memslot> memslot);
  void Remove(const Memslot& memslot);

  // Runs `task`, which loads frame `index` of the memslot, in a loader thread.
  // Those of one frame run one after the other, so that who waits for the same
  // read holds one thread. REQUIRES: the memslot has a source and was added.
  void RunInLoader(const Memslot& memslot, uint64_t index,
                   std::function<void()> task);

 private:
  using Frame = std::pair<const Memslot*, uint64_t>;

  Pager(int epoll_fd, int stop_fd, Handler handler);
  void Run();
  void RunLoader();
  absl::Status StartLoaders() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Memslot> Find(int uffd);

  const int epoll_fd_;
  const int stop_fd_;  // eventfd: readable when the threads are to end
  const Handler handler_;

  Mutex mutex_;
  CondVar changed_;
  std::map<int, std::shared_ptr<Memslot>> memslots_ ABSL_GUARDED_BY(mutex_);
  // Frames with tasks that no loader has taken up, and the tasks of all frames
  // that have some or are being loaded.
  std::deque<Frame> frames_ ABSL_GUARDED_BY(mutex_);
  std::map<Frame, std::vector<std::function<void()>>> tasks_
      ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  // Started with the first memslot that has a source.
  std::vector<std::thread> loaders_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::thread> threads_;
};

}  // namespace tdp

#endif  // ENGINE_VM_PAGER_H_
