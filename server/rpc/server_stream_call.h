// ServerStreamCall: one request, many responses, pulled from a StreamSource.

#ifndef SERVER_RPC_SERVER_STREAM_CALL_H_
#define SERVER_RPC_SERVER_STREAM_CALL_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/async_stream.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace tdp::server {

// Everything about a server stream but its types.
//
// After Begin() exactly one of these is true: a step runs or is queued, a write
// is under way, the stream is parked, or the call is complete. A parked stream
// has its alarm set; waking it means cancelling the alarm, so that the step
// always begins with an event of the completion queue.
class ServerStreamCallBase : public Call {
 public:
  static constexpr bool kIsStream = true;
  using Call::Call;
  void NoteDraining() final { Wake(); }

 protected:
  virtual absl::Status OpenSource() = 0;
  // Asks the source for its next step and, for kSend, leaves the message.
  virtual absl::StatusOr<StreamStep> NextStep() = 0;
  virtual void CloseSource() = 0;
  virtual void SendMessage(void* tag) = 0;
  virtual int64_t message_bytes() const = 0;

 private:
  DefaultDeadline default_deadline() const final {
    return DefaultDeadline::kNone;
  }
  void Begin() final;
  void NoteCancelled() final { Wake(); }
  void NoteCutOff() final { Wake(); }
  void OnWritten(bool ok) final;
  void OnAlarm(bool expired) final;

  void Wake() ABSL_LOCKS_EXCLUDED(mutex_);
  void Continue();
  bool MustWait() const;
  void RunStep() ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status);

  bool parked_ ABSL_GUARDED_BY(mutex_) = false;
  bool wake_pending_ ABSL_GUARDED_BY(mutex_) = false;
};

template <typename Service, typename Request, typename Response>
class ServerStreamCall final : public ServerStreamCallBase {
 public:
  using Writer = grpc::ServerAsyncWriter<Response>;
  using RequestFunction = std::function<void(
      Service&, grpc::ServerContext*, Request*, Writer*, grpc::CompletionQueue*,
      grpc::ServerCompletionQueue*, void*)>;
  // Opens a stream. `context` and `request` outlive the source.
  using Handler =
      std::function<absl::StatusOr<std::unique_ptr<StreamSource<Response>>>(
          CallContext& context, const Request& request)>;

  struct Binding {
    Service& service;
    RequestFunction request;
    Handler handler;
  };

  ServerStreamCall(const Method& method, ServerCore& core,
                   grpc::ServerCompletionQueue& cq, const Binding& binding)
      : ServerStreamCallBase(method, core, cq), binding_(binding) {}

 private:
  grpc::ServerContext& server_context() override { return server_context_; }
  void RequestCall(void* tag) override {
    binding_.request(binding_.service, &server_context_, &request_, &writer_,
                     &cq(), &cq(), tag);
  }
  absl::Status OpenSource() override {
    auto source = binding_.handler(context(), request_);
    if (!source.ok()) return source.status();
    source_ = *std::move(source);
    return absl::OkStatus();
  }
  absl::StatusOr<StreamStep> NextStep() override {
    message_.Clear();
    return source_->Next(context(), &message_);
  }
  void CloseSource() override { source_.reset(); }
  void SendMessage(void* tag) override { writer_.Write(message_, tag); }
  int64_t message_bytes() const override {
    return static_cast<int64_t>(message_.ByteSizeLong());
  }
  void SendStatus(const grpc::Status& status, void* tag) override {
    writer_.Finish(status, tag);
  }

  const Binding& binding_;
  grpc::ServerContext server_context_;
  Request request_;
  Response message_;
  Writer writer_{&server_context_};
  std::unique_ptr<StreamSource<Response>> source_;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_SERVER_STREAM_CALL_H_
