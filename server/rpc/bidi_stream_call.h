// BidiStreamCall: each request is answered by one response, in order, by a
// StreamAnswerer.

#ifndef SERVER_RPC_BIDI_STREAM_CALL_H_
#define SERVER_RPC_BIDI_STREAM_CALL_H_

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/arena.h"
#include "grpcpp/support/async_stream.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace tdp::server {

// Everything about a bidirectional stream but its types. While an answer is on
// its way out the next message is read already; it waits until the answer has
// left. After Begin() at least one of these is true: a step runs, a read or a
// write is under way, or the call is complete. A step runs beside neither.
//
// A stream that waits for its client ends when the server begins to drain; one
// that is opened while it drains lives on.
class BidiStreamCallBase : public Call {
 public:
  static constexpr bool kIsStream = true;
  using Call::Call;
  void NoteDraining() final { EndIfUnwanted(); }

 protected:
  virtual absl::Status OpenAnswerer() = 0;
  // Answers the message that was read.
  virtual absl::Status AnswerMessage() = 0;
  virtual void CloseAnswerer() = 0;
  // Makes room for the next message; the last answer is sent or on its way.
  virtual void ResetMessages() = 0;
  virtual void ReadMessage(void* tag) = 0;
  virtual void SendMessage(void* tag) = 0;
  virtual int64_t message_bytes() const = 0;

 private:
  DefaultDeadline default_deadline() const final {
    return DefaultDeadline::kNone;
  }
  void Begin() final;
  void NoteCutOff() final { EndIfUnwanted(); }
  void OnRead(bool ok) final ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWritten(bool ok) final ABSL_LOCKS_EXCLUDED(mutex_);
  void ReadNext() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends a stream that waits for its client while the server waits for it.
  void EndIfUnwanted() ABSL_LOCKS_EXCLUDED(mutex_);
  // Answers the message that was read, if one was.
  void StartStep(bool has_message);
  void RunStep(bool has_message) ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status);

  bool began_draining_ = false;  // constant after Begin()
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Set while a read that is over waits for the write: whether it got a
  // message.
  std::optional<bool> waiting_read_ ABSL_GUARDED_BY(mutex_);
  // The call ends without another step.
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

template <typename Service, typename Request, typename Response>
class BidiStreamCall final : public BidiStreamCallBase {
 public:
  using Stream = grpc::ServerAsyncReaderWriter<Response, Request>;
  using RequestFunction = std::function<void(
      Service&, grpc::ServerContext*, Stream*, grpc::CompletionQueue*,
      grpc::ServerCompletionQueue*, void*)>;
  // Opens a stream. `context` outlives the answerer.
  using Handler = std::function<
      absl::StatusOr<std::unique_ptr<StreamAnswerer<Request, Response>>>(
          CallContext& context)>;

  // Whether a message takes so long that it must not be answered in place.
  using IsLong = std::function<bool(const Request& message)>;

  struct Binding {
    Service& service;
    RequestFunction request;
    Handler handler;
    IsLong is_long;  // may be empty
  };

  BidiStreamCall(const Method& method, ServerCore& core,
                 grpc::ServerCompletionQueue& cq, const Binding& binding)
      : BidiStreamCallBase(method, core, cq), binding_(binding) {}

 private:
  grpc::ServerContext& server_context() override { return server_context_; }
  void RequestCall(void* tag) override {
    binding_.request(binding_.service, &server_context_, &stream_, &cq(), &cq(),
                     tag);
  }
  RunOn run_on() const override {
    if (binding_.is_long && request_ != nullptr &&
        binding_.is_long(*request_)) {
      return RunOn::kBulk;
    }
    return method().run_on;
  }
  absl::Status OpenAnswerer() override {
    auto answerer = binding_.handler(context());
    if (!answerer.ok()) return answerer.status();
    answerer_ = *std::move(answerer);
    return absl::OkStatus();
  }
  absl::Status AnswerMessage() override {
    return answerer_->Answer(context(), *request_, response_);
  }
  void CloseAnswerer() override { answerer_.reset(); }
  void ResetMessages() override {
    arena_.Reset();
    request_ = google::protobuf::Arena::CreateMessage<Request>(&arena_);
    response_ = google::protobuf::Arena::CreateMessage<Response>(&arena_);
  }
  void ReadMessage(void* tag) override { stream_.Read(request_, tag); }
  // gRPC has serialized the message when this returns.
  void SendMessage(void* tag) override { stream_.Write(*response_, tag); }
  int64_t message_bytes() const override {
    return static_cast<int64_t>(response_->ByteSizeLong());
  }
  void SendStatus(const grpc::Status& status, void* tag) override {
    stream_.Finish(status, tag);
  }
  static google::protobuf::ArenaOptions ArenaOptions() {
    google::protobuf::ArenaOptions options;
    options.start_block_size = 512;
    options.max_block_size = size_t{64} << 10;
    return options;
  }

  const Binding& binding_;
  grpc::ServerContext server_context_;
  // Of one message and its answer, which then cost few allocations however
  // many parts they have. Holds little while the stream is idle.
  google::protobuf::Arena arena_{ArenaOptions()};
  Request* request_ = nullptr;
  Response* response_ = nullptr;
  Stream stream_{&server_context_};
  std::unique_ptr<StreamAnswerer<Request, Response>> answerer_;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_BIDI_STREAM_CALL_H_
