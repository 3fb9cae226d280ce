// RemoteCall: one call of a load, on a completion queue.
//
// Thread safety: one thread.

#ifndef CLIENT_TDPBENCH_REMOTE_CALL_H_
#define CLIENT_TDPBENCH_REMOTE_CALL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/tdpbench/mix.h"

namespace grpc {
class Channel;
class CompletionQueue;
}  // namespace grpc

namespace tdp::client {

// What the requests are about.
struct RequestOptions {
  std::string vm_name;             // "vms/demo"
  uint64_t frame_count = 1 << 14;  // calls touch frames below this
  // Frames of walk_frames and walk_range, operations of stream_ops.
  uint64_t batch = 256;
  absl::Duration timeout = absl::Seconds(30);
};

class RemoteCall {
 public:
  virtual ~RemoteCall() = default;

  // The queue gave the call's tag. Returns whether the call is over.
  virtual bool Advance(bool ok) = 0;
  // Once it is over.
  virtual absl::Status status() const = 0;
};

// Makes calls over one connection.
class RemoteCaller {
 public:
  RemoteCaller(const std::shared_ptr<grpc::Channel>& channel,
               RequestOptions options);
  ~RemoteCaller();
  RemoteCaller(RemoteCaller&&) noexcept;

  // Starts a call; `random` says which frames. `tag` comes out of the queue
  // for each of its events.
  std::unique_ptr<RemoteCall> Start(Operation operation, uint64_t random,
                                    grpc::CompletionQueue& queue, void* tag);

 private:
  struct Stubs;

  RequestOptions options_;
  std::unique_ptr<Stubs> stubs_;
};

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_REMOTE_CALL_H_
