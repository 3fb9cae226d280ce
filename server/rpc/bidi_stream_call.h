// BidiStreamCall: each request is answered by one response, in order, by a
// StreamAnswerer.

#ifndef SERVER_RPC_BIDI_STREAM_CALL_H_
#define SERVER_RPC_BIDI_STREAM_CALL_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/async_stream.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace tdp::server {

// Everything about a bidirectional stream but its types. After Begin() exactly
// one of these is true: a step runs, a read or a write is under way, or the
// call is complete. A stream that waits for its client ends when the server
// begins to drain; one that is opened while it drains lives on.
class BidiStreamCallBase : public Call {
 public:
  static constexpr bool kIsStream = true;
  using Call::Call;
  void NoteDraining() final ABSL_LOCKS_EXCLUDED(mutex_);

 protected:
  virtual absl::Status OpenAnswerer() = 0;
  virtual absl::Status AnswerMessage() = 0;
  virtual void CloseAnswerer() = 0;
  virtual void ReadMessage(void* tag) = 0;
  virtual void SendMessage(void* tag) = 0;
  virtual int64_t message_bytes() const = 0;

 private:
  DefaultDeadline default_deadline() const final {
    return DefaultDeadline::kNone;
  }
  void Begin() final;
  void OnRead(bool ok) final ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWritten(bool ok) final;
  void ReadNext() ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status);

  bool began_draining_ = false;  // constant after Begin()
  // A read is under way and nothing else.
  bool idle_ ABSL_GUARDED_BY(mutex_) = false;
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

  struct Binding {
    Service& service;
    RequestFunction request;
    Handler handler;
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
  absl::Status OpenAnswerer() override {
    auto answerer = binding_.handler(context());
    if (!answerer.ok()) return answerer.status();
    answerer_ = *std::move(answerer);
    return absl::OkStatus();
  }
  absl::Status AnswerMessage() override {
    response_.Clear();
    return answerer_->Answer(context(), request_, &response_);
  }
  void CloseAnswerer() override { answerer_.reset(); }
  void ReadMessage(void* tag) override { stream_.Read(&request_, tag); }
  void SendMessage(void* tag) override { stream_.Write(response_, tag); }
  int64_t message_bytes() const override {
    return static_cast<int64_t>(response_.ByteSizeLong());
  }
  void SendStatus(const grpc::Status& status, void* tag) override {
    stream_.Finish(status, tag);
  }

  const Binding& binding_;
  grpc::ServerContext server_context_;
  Request request_;
  Response response_;
  Stream stream_{&server_context_};
  std::unique_ptr<StreamAnswerer<Request, Response>> answerer_;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_BIDI_STREAM_CALL_H_
