// ClientStreamCall: many requests, taken by a StreamSink, one response.

#ifndef SERVER_RPC_CLIENT_STREAM_CALL_H_
#define SERVER_RPC_CLIENT_STREAM_CALL_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/async_stream.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace tdp::server {

// Everything about a client stream but its types. After Begin() either a step
// runs, or a read is under way, or the call is complete.
class ClientStreamCallBase : public Call {
 public:
  static constexpr bool kIsStream = true;
  using Call::Call;

 protected:
  virtual absl::Status OpenSink() = 0;
  virtual absl::Status TakeMessage() = 0;
  virtual absl::Status EndOfMessages() = 0;
  virtual void CloseSink() = 0;
  virtual void ReadMessage(void* tag) = 0;

 private:
  DefaultDeadline default_deadline() const final {
    return DefaultDeadline::kNone;
  }
  void Begin() final;
  void NoteCutOff() final ABSL_LOCKS_EXCLUDED(mutex_);
  void OnRead(bool ok) final ABSL_LOCKS_EXCLUDED(mutex_);
  void ReadNext() ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status);

  // A read is under way and the call has not ended.
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
};

template <typename Service, typename Request, typename Response>
class ClientStreamCall final : public ClientStreamCallBase {
 public:
  using Reader = grpc::ServerAsyncReader<Response, Request>;
  using RequestFunction = std::function<void(
      Service&, grpc::ServerContext*, Reader*, grpc::CompletionQueue*,
      grpc::ServerCompletionQueue*, void*)>;
  // Opens a stream. `context` outlives the sink.
  using Handler = std::function<absl::StatusOr<
      std::unique_ptr<StreamSink<Request, Response>>>(CallContext& context)>;

  struct Binding {
    Service& service;
    RequestFunction request;
    Handler handler;
  };

  ClientStreamCall(const Method& method, ServerCore& core,
                   grpc::ServerCompletionQueue& cq, const Binding& binding)
      : ClientStreamCallBase(method, core, cq), binding_(binding) {}

 private:
  grpc::ServerContext& server_context() override { return server_context_; }
  void RequestCall(void* tag) override {
    binding_.request(binding_.service, &server_context_, &reader_, &cq(), &cq(),
                     tag);
  }
  absl::Status OpenSink() override {
    auto sink = binding_.handler(context());
    if (!sink.ok()) return sink.status();
    sink_ = *std::move(sink);
    return absl::OkStatus();
  }
  absl::Status TakeMessage() override {
    return sink_->Take(context(), message_);
  }
  absl::Status EndOfMessages() override {
    return sink_->End(context(), &response_);
  }
  void CloseSink() override { sink_.reset(); }
  void ReadMessage(void* tag) override { reader_.Read(&message_, tag); }
  int64_t response_bytes() const override {
    return static_cast<int64_t>(response_.ByteSizeLong());
  }
  void SendStatus(const grpc::Status& status, void* tag) override {
    if (status.ok()) {
      reader_.Finish(response_, status, tag);
    } else {
      reader_.FinishWithError(status, tag);
    }
  }

  const Binding& binding_;
  grpc::ServerContext server_context_;
  Request message_;
  Response response_;
  Reader reader_{&server_context_};
  std::unique_ptr<StreamSink<Request, Response>> sink_;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_CLIENT_STREAM_CALL_H_
