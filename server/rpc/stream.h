// What the handler of a streaming method provides: plain objects that the
// adapter calls one step at a time, never two at once. They see no tags.
//
// An object lives from the start of its call until the call's status is
// decided, and is destroyed on the thread that ran its last step.

#ifndef SERVER_RPC_STREAM_H_
#define SERVER_RPC_STREAM_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/rpc/call_context.h"

namespace tdp::server {

// What a StreamSource wants next.
struct StreamStep {
  enum class Kind { kSend, kPark, kEnd };

  // Send the message; then ask again.
  static StreamStep Send() { return {Kind::kSend, absl::InfiniteFuture()}; }
  // Nothing to send now. Ask again after the context's waker was called or at
  // `wake_time`, whichever is first.
  static StreamStep Park(absl::Time wake_time = absl::InfiniteFuture()) {
    return {Kind::kPark, wake_time};
  }
  // End the stream with OK.
  static StreamStep End() { return {Kind::kEnd, absl::InfiniteFuture()}; }

  Kind kind;
  absl::Time wake_time;
};

// Produces the messages of a server stream, each when the one before it has
// left: a slow reader holds back its own stream and costs one message.
template <typename Response>
class StreamSource {
 public:
  virtual ~StreamSource() = default;
  // Fills `message`, which is empty, if it returns Send(). An error ends the
  // stream.
  virtual absl::StatusOr<StreamStep> Next(CallContext& context,
                                          Response* message) = 0;
};

// Takes the messages of a client stream.
template <typename Request, typename Response>
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  // An error ends the stream at once.
  virtual absl::Status Take(CallContext& context, const Request& message) = 0;
  // The client has sent everything.
  virtual absl::Status End(CallContext& context, Response* response) = 0;
};

// Answers each message of a bidirectional stream with one, in order.
template <typename Request, typename Response>
class StreamAnswerer {
 public:
  virtual ~StreamAnswerer() = default;
  // An error ends the stream.
  virtual absl::Status Answer(CallContext& context, const Request& message,
                              Response* response) = 0;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_STREAM_H_
