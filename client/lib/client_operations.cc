// Client::StreamOperations: messages that overlap with their answers.

#include "absl/strings/str_cat.h"
#include "client/lib/connection.h"
#include "google/protobuf/arena.h"

namespace tdp::client {
namespace {

using google::protobuf::Arena;
using Request = v1::StreamOperationsRequest;
using Response = v1::StreamOperationsResponse;

// What a completion queue reports; the address is the tag.
struct Event {
  bool pending = false;

  void* Start() {
    pending = true;
    return this;
  }
};

}  // namespace

absl::Status Client::Connection::StreamOperations(
    absl::FunctionRef<bool(Request&)> fill, OnMessage<Response> on_answer,
    int window) {
  grpc::ClientContext context;
  SetTimeout(context, NewRetries(StreamTimeout()).remaining());
  grpc::CompletionQueue queue;
  Event start;
  Event read;
  Event write;
  const auto stream =
      mmu->AsyncStreamOperations(&context, &queue, start.Start());
  // A message's many parts are then few allocations.
  Arena request_arena;
  Arena response_arena;
  Response* response = nullptr;
  int unanswered = 0;
  bool more = true;
  bool stopped = false;
  const auto read_next = [&] {
    response_arena.Reset();
    response = Arena::CreateMessage<Response>(&response_arena);
    stream->Read(response, read.Start());
  };
  const auto write_next = [&] {
    if (write.pending || !more || unanswered >= window) return;
    request_arena.Reset();
    Request* request = Arena::CreateMessage<Request>(&request_arena);
    more = fill(*request);
    if (more) {
      ++unanswered;
      stream->Write(*request, write.Start());
    } else {
      stream->WritesDone(write.Start());
    }
  };
  while (start.pending || read.pending || write.pending) {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    static_cast<Event*>(tag)->pending = false;
    if (tag == &write) {
      more = more && ok;
    } else if (tag == &start) {
      more = ok;
      if (ok) read_next();
    } else if (ok) {
      --unanswered;
      if (!stopped && !on_answer(*response)) {
        stopped = true;
        more = false;
        context.TryCancel();
      }
      read_next();
    } else {
      more = false;  // the daemon has ended the stream
    }
    write_next();
  }
  grpc::Status status;
  stream->Finish(&status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return status.ok() || stopped ? absl::OkStatus() : ToStatus(status);
}

absl::Status Client::StreamOperations(absl::FunctionRef<bool(Request&)> fill,
                                      OnMessage<Response> on_answer,
                                      int window) {
  if (window < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the window is ", window, "; nothing could be sent"));
  }
  return connection_->StreamOperations(fill, on_answer, window);
}

}  // namespace tdp::client
