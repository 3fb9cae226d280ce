// Pager: the threads that read the fault events of a VM's memslots and have
// each one answered.
//
// All threads wait on one epoll instance; an event is read by one of them.
//
// Thread safety: all methods, from any thread. The handler runs in pager
// threads, several at a time.
//
// Invariants: a handler runs for a memslot only while the pager, or the thread
// that runs it, holds a reference on the memslot.

#ifndef ENGINE_VM_PAGER_H_
#define ENGINE_VM_PAGER_H_

#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "engine/memory/memslot.h"
#include "engine/sync/mutex.h"

namespace tdp {

class Pager {
 public:
  // Answers one event. The vCPU that sleeps must be awake, or be woken by
  // somebody else, soon after.
  using Handler = std::function<void(Memslot&, const FaultEvent&)>;

  static absl::StatusOr<std::unique_ptr<Pager>> Start(int thread_count,
                                                      Handler handler);
  // Ends the threads. REQUIRES: nobody sleeps in a memslot that was added.
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  // Faults on the memslot are answered from now on, until Remove().
  absl::Status Add(std::shared_ptr<Memslot> memslot);
  void Remove(const Memslot& memslot);

 private:
  Pager(int epoll_fd, int stop_fd, Handler handler);
  void Run();
  std::shared_ptr<Memslot> Find(int uffd);

  const int epoll_fd_;
  const int stop_fd_;  // eventfd: readable when the threads are to end
  const Handler handler_;

  Mutex mutex_;
  std::map<int, std::shared_ptr<Memslot>> memslots_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::thread> threads_;
};

}  // namespace tdp

#endif  // ENGINE_VM_PAGER_H_
