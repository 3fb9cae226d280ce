// UnaryCall: one request, one response.

#ifndef SERVER_RPC_UNARY_CALL_H_
#define SERVER_RPC_UNARY_CALL_H_

#include <functional>
#include <utility>

#include "grpcpp/support/async_unary_call.h"
#include "server/rpc/call.h"
#include "server/rpc/reply.h"

namespace tdp::server {

// Everything about a unary call but its types.
class UnaryCallBase : public Call {
 public:
  static constexpr bool kIsStream = false;
  using Call::Call;

 protected:
  // Runs the handler. The call is completed then, or later by its Reply.
  virtual void Invoke() = 0;
  // Completes the call; keeps it alive until then.
  Reply MakeReply();

 private:
  DefaultDeadline default_deadline() const final {
    return DefaultDeadline::kApplies;
  }
  void Begin() final;
  void Run();
  void NoteDraining() final { context().NoteDraining(); }
  void NoteCancelled() final { EndUnwanted(); }
  void NoteCutOff() final { EndUnwanted(); }
  // The handler, if it runs, finds out itself.
  void EndUnwanted() { Complete(context().CheckAlive()); }
  void OnAlarm(bool expired) final;
};

template <typename Service, typename Request, typename Response>
class UnaryCall final : public UnaryCallBase {
 public:
  using Writer = grpc::ServerAsyncResponseWriter<Response>;
  using RequestFunction = std::function<void(
      Service&, grpc::ServerContext*, Request*, Writer*, grpc::CompletionQueue*,
      grpc::ServerCompletionQueue*, void*)>;
  using Handler = std::function<absl::Status(
      CallContext& context, const Request& request, Response* response)>;
  // `reply` is called once it is done, maybe much later.
  using DeferredHandler =
      std::function<void(CallContext& context, const Request& request,
                         Response* response, Reply reply)>;
  // Whether a request takes so long that it must not be answered in place.
  using IsLong = std::function<bool(const Request& request)>;

  // What all calls of a method share; outlives them.
  struct Binding {
    Service& service;
    RequestFunction request;
    Handler handler;  // one of the two is empty
    DeferredHandler deferred;
    IsLong is_long;  // may be empty
  };

  UnaryCall(const Method& method, ServerCore& core,
            grpc::ServerCompletionQueue& cq, const Binding& binding)
      : UnaryCallBase(method, core, cq), binding_(binding) {}

 private:
  grpc::ServerContext& server_context() override { return server_context_; }
  void RequestCall(void* tag) override {
    binding_.request(binding_.service, &server_context_, &request_, &writer_,
                     &cq(), &cq(), tag);
  }
  RunOn run_on() const override {
    if (binding_.is_long && binding_.is_long(request_)) {
      return RunOn::kBulk;
    }
    return method().run_on;
  }
  bool hears_cancellation() const override {
    return binding_.deferred || binding_.is_long ||
           method().run_on != RunOn::kPoller;
  }
  void Invoke() override {
    if (binding_.handler) {
      Complete(binding_.handler(context(), request_, &response_));
    } else {
      binding_.deferred(context(), request_, &response_, MakeReply());
    }
  }
  int64_t response_bytes() const override {
    return static_cast<int64_t>(response_.ByteSizeLong());
  }
  void SendStatus(const grpc::Status& status, void* tag) override {
    if (status.ok()) {
      writer_.Finish(response_, status, tag);
    } else {
      writer_.FinishWithError(status, tag);
    }
  }

  const Binding& binding_;
  grpc::ServerContext server_context_;
  Request request_;
  Response response_;
  Writer writer_{&server_context_};
};

}  // namespace tdp::server

#endif  // SERVER_RPC_UNARY_CALL_H_
