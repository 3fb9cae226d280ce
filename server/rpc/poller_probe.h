// PollerProbe: a question that passes through a completion queue as a call
// does, and that whoever polls the queue answers. Shows that the poller is not
// stuck in a handler.
//
// Thread safety: Ask() from one thread; Answer() on the poller's.

#ifndef SERVER_RPC_POLLER_PROBE_H_
#define SERVER_RPC_POLLER_PROBE_H_

#include <chrono>
#include <functional>
#include <utility>

#include "grpcpp/alarm.h"
#include "grpcpp/completion_queue.h"

namespace tdp::server {

class PollerProbe {
 public:
  // Puts this object, as a tag, onto the queue.
  // REQUIRES: the last question was answered, and `queue` is not shut down.
  void Ask(grpc::CompletionQueue& queue, std::function<void()> answered) {
    answered_ = std::move(answered);
    alarm_.Set(&queue, std::chrono::system_clock::now(), this);
  }
  // The tag has come out of the queue.
  void Answer() { answered_(); }

 private:
  std::function<void()> answered_;
  grpc::Alarm alarm_;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_POLLER_PROBE_H_
