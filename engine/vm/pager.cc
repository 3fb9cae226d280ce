#include "engine/vm/pager.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "engine/base/errors.h"
#include "engine/sync/thread.h"

namespace tdp {
namespace {

// They mostly wait for the disk.
constexpr int kLoaderThreads = 4;

}  // namespace

absl::StatusOr<std::unique_ptr<Pager>> Pager::Start(int thread_count,
                                                    Handler handler) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return HostCallError("epoll_create1", errno);
  const int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) {
    const int error = errno;
    close(epoll_fd);
    return HostCallError("eventfd", error);
  }
  auto pager =
      std::unique_ptr<Pager>(new Pager(epoll_fd, stop_fd, std::move(handler)));
  epoll_event event = {.events = EPOLLIN, .data = {.fd = stop_fd}};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, stop_fd, &event) != 0) {
    return HostCallError("epoll_ctl", errno);
  }
  for (int i = 0; i < thread_count; ++i) {
    std::thread thread;
    if (absl::Status s = StartThread(
            "tdpd-pager", [p = pager.get()] { p->Run(); }, &thread);
        !s.ok()) {
      return s;
    }
    pager->threads_.push_back(std::move(thread));
  }
  return pager;
}

Pager::Pager(int epoll_fd, int stop_fd, Handler handler)
    : epoll_fd_(epoll_fd), stop_fd_(stop_fd), handler_(std::move(handler)) {}

Pager::~Pager() {
  const uint64_t one = 1;
  // The eventfd is never read, so it stays readable for every thread.
  (void)!write(stop_fd_, &one, sizeof(one));
  for (std::thread& thread : threads_) thread.join();
  std::vector<std::thread> loaders;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
    loaders.swap(loaders_);
  }
  for (std::thread& loader : loaders) loader.join();
  close(stop_fd_);
  close(epoll_fd_);
}

absl::Status Pager::Add(std::shared_ptr<Memslot> memslot) {
  const int uffd = memslot->uffd();
  {
    MutexLock lock(mutex_);
    if (memslot->has_source()) {
      if (absl::Status s = StartLoaders(); !s.ok()) return s;
    }
    memslots_[uffd] = std::move(memslot);
  }
  // Edge-triggered: an event wakes one thread, once. The handler reads all.
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.fd = uffd}};
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, uffd, &event) != 0) {
    const int error = errno;
    MutexLock lock(mutex_);
    memslots_.erase(uffd);
    return HostCallError("epoll_ctl", error);
  }
  return absl::OkStatus();
}

void Pager::Remove(const Memslot& memslot) {
  const int uffd = memslot.uffd();
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, uffd, nullptr);
  std::shared_ptr<Memslot> last;
  MutexLock lock(mutex_);
  if (auto it = memslots_.find(uffd); it != memslots_.end()) {
    last = std::move(it->second);
    memslots_.erase(it);
  }
}

std::shared_ptr<Memslot> Pager::Find(int uffd) {
  MutexLock lock(mutex_);
  const auto it = memslots_.find(uffd);
  return it == memslots_.end() ? nullptr : it->second;
}

void Pager::Run() {
  for (;;) {
    epoll_event ready;
    const int count = epoll_wait(epoll_fd_, &ready, 1, -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 || ready.data.fd == stop_fd_) return;
    const std::shared_ptr<Memslot> memslot = Find(ready.data.fd);
    if (memslot == nullptr) continue;
    handler_(memslot);
  }
}

absl::Status Pager::StartLoaders() {
  while (loaders_.size() < kLoaderThreads) {
    std::thread thread;
    if (absl::Status s = StartThread(
            "tdpd-loader", [this] { RunLoader(); }, &thread);
        !s.ok()) {
      return s;
    }
    loaders_.push_back(std::move(thread));
  }
  return absl::OkStatus();
}

void Pager::RunInLoader(const Memslot& memslot, uint64_t index,
                        std::function<void()> task) {
  MutexLock lock(mutex_);
  const Frame frame = {&memslot, index};
  const auto [it, first] = tasks_.try_emplace(frame);
  it->second.push_back(std::move(task));
  if (!first) return;  // whoever loads the frame takes it up
  frames_.push_back(frame);
  changed_.NotifyOne();
}

void Pager::RunLoader() {
  MutexLock lock(mutex_);
  for (;;) {
    while (!stop_ && frames_.empty()) changed_.Wait(mutex_);
    if (stop_) return;
    const Frame frame = frames_.front();
    frames_.pop_front();
    while (!stop_ && !tasks_[frame].empty()) {
      std::vector<std::function<void()>> tasks;
      tasks.swap(tasks_[frame]);
      mutex_.Unlock();
      for (const std::function<void()>& task : tasks) task();
      tasks.clear();
      mutex_.Lock();
    }
    tasks_.erase(frame);
  }
}

}  // namespace tdp
