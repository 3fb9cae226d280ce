// RpcServer: the adapter between gRPC's completion queues and plain functions.
//
//   auto& vms = server.AddService<v1::VmService>();
//   using Vms = v1::VmService::AsyncService;
//   server.Unary(vms, {"VmService.GetVm", RunOn::kPoller},
//                &Vms::RequestGetVm, handler, &VmHandler::GetVm);
//   server.Start({...});
//
// A few threads poll. A call that takes microseconds is answered in place by
// the thread that received it; the others run on the executor.
//
// Thread safety: registration and Start() on one thread, in this order;
// BeginDrain(), WaitUntilIdle() and Shutdown() afterwards, from any one thread.

#ifndef SERVER_RPC_RPC_SERVER_H_
#define SERVER_RPC_RPC_SERVER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "server/base/executor.h"
#include "server/rpc/bidi_stream_call.h"
#include "server/rpc/client_stream_call.h"
#include "server/rpc/method_traits.h"
#include "server/rpc/poller_probe.h"
#include "server/rpc/read_limits.h"
#include "server/rpc/server_core.h"
#include "server/rpc/server_stream_call.h"
#include "server/rpc/unary_call.h"

namespace tdp::server {

// An address to listen on, as gRPC writes it, e.g. "unix:/run/tdpd.sock".
struct RpcListener {
  std::string address;
  std::shared_ptr<grpc::ServerCredentials> credentials;
};

class RpcServer {
 public:
  struct Options {
    int poller_count = 1;
    // Of a unary call whose caller set none.
    absl::Duration default_deadline = absl::Seconds(30);
    int64_t max_request_bytes = limits::kMaxRequestBytes;
    int64_t max_streams_per_connection = limits::kMaxStreamsPerConnection;
    // A call is cut off when what it sent has not been read for so long, or up
    // to a quarter more, and the time on top that it takes at this rate.
    absl::Duration max_unread_time = absl::Seconds(limits::kMaxUnreadSeconds);
    int64_t min_read_bytes_per_second = kMinReadBytesPerSecond;
    // In the order in which a call passes them; they outlive the server.
    std::vector<CallGate*> gates;
  };

  // `executor` outlives the server.
  RpcServer(const Options& options, Executor& executor);
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;
  // REQUIRES: not started, or Shutdown() has returned.
  ~RpcServer();

  // Adds a service; its methods must all be registered below.
  template <typename Service>
  typename Service::AsyncService& AddService() {
    auto service = std::make_unique<typename Service::AsyncService>();
    auto& result = *service;
    services_.push_back(std::move(service));
    service_names_.emplace_back(Service::service_full_name());
    return result;
  }

  // A unary method that `(object->*handler)(context, request, response)`
  // answers; on the executor also where `is_long` says so of the request.
  template <typename Service, typename Base, typename Request,
            typename Response, typename Object>
  void Unary(Service& service, MethodTraits traits,
             void (Base::*request)(grpc::ServerContext*, Request*,
                                   grpc::ServerAsyncResponseWriter<Response>*,
                                   grpc::CompletionQueue*,
                                   grpc::ServerCompletionQueue*, void*),
             Object* object,
             absl::Status (Object::*handler)(CallContext&, const Request&,
                                             Response*),
             bool (*is_long)(const std::type_identity_t<Request>&) = nullptr) {
    AddMethod<UnaryCall<Service, Request, Response>>(
        service, std::move(traits), request,
        [object, handler](CallContext& context, const Request& message,
                          Response* response) {
          return (object->*handler)(context, message, response);
        },
        nullptr, is_long);
  }

  // A unary method whose handler answers later, through its Reply.
  template <typename Service, typename Base, typename Request,
            typename Response, typename Object>
  void DeferredUnary(
      Service& service, MethodTraits traits,
      void (Base::*request)(grpc::ServerContext*, Request*,
                            grpc::ServerAsyncResponseWriter<Response>*,
                            grpc::CompletionQueue*,
                            grpc::ServerCompletionQueue*, void*),
      Object* object,
      void (Object::*handler)(CallContext&, const Request&, Response*, Reply)) {
    AddMethod<UnaryCall<Service, Request, Response>>(
        service, std::move(traits), request, nullptr,
        [object, handler](CallContext& context, const Request& message,
                          Response* response, Reply reply) {
          (object->*handler)(context, message, response, std::move(reply));
        });
  }

  template <typename Service, typename Base, typename Request,
            typename Response, typename Object>
  void ServerStream(Service& service, MethodTraits traits,
                    void (Base::*request)(grpc::ServerContext*, Request*,
                                          grpc::ServerAsyncWriter<Response>*,
                                          grpc::CompletionQueue*,
                                          grpc::ServerCompletionQueue*, void*),
                    Object* object,
                    absl::StatusOr<std::unique_ptr<StreamSource<Response>>> (
                        Object::*handler)(CallContext&, const Request&)) {
    AddMethod<ServerStreamCall<Service, Request, Response>>(
        service, std::move(traits), request,
        [object, handler](CallContext& context, const Request& message) {
          return (object->*handler)(context, message);
        });
  }

  template <typename Service, typename Base, typename Request,
            typename Response, typename Object>
  void ClientStream(
      Service& service, MethodTraits traits,
      void (Base::*request)(grpc::ServerContext*,
                            grpc::ServerAsyncReader<Response, Request>*,
                            grpc::CompletionQueue*,
                            grpc::ServerCompletionQueue*, void*),
      Object* object,
      absl::StatusOr<std::unique_ptr<StreamSink<Request, Response>>> (
          Object::*handler)(CallContext&)) {
    AddMethod<ClientStreamCall<Service, Request, Response>>(
        service, std::move(traits), request,
        [object, handler](CallContext& context) {
          return (object->*handler)(context);
        });
  }

  // Each message is answered on the executor also where `is_long` says so of
  // it.
  template <typename Service, typename Base, typename Request,
            typename Response, typename Object>
  void BidiStream(
      Service& service, MethodTraits traits,
      void (Base::*request)(grpc::ServerContext*,
                            grpc::ServerAsyncReaderWriter<Response, Request>*,
                            grpc::CompletionQueue*,
                            grpc::ServerCompletionQueue*, void*),
      Object* object,
      absl::StatusOr<std::unique_ptr<StreamAnswerer<Request, Response>>> (
          Object::*handler)(CallContext&),
      bool (*is_long)(const std::type_identity_t<Request>&) = nullptr) {
    AddMethod<BidiStreamCall<Service, Request, Response>>(
        service, std::move(traits), request,
        [object, handler](CallContext& context) {
          return (object->*handler)(context);
        },
        is_long);
  }

  // Methods of the API that this daemon does not serve: NOT_IMPLEMENTED.
  template <typename Service, typename Base, typename Request,
            typename Response>
  void NotImplemented(
      Service& service, std::string name,
      void (Base::*request)(grpc::ServerContext*, Request*,
                            grpc::ServerAsyncResponseWriter<Response>*,
                            grpc::CompletionQueue*,
                            grpc::ServerCompletionQueue*, void*)) {
    AddMethod<UnaryCall<Service, Request, Response>>(
        service, {name, Role::kNone}, request,
        [name](CallContext&, const Request&, Response*) {
          return NotImplementedError(name);
        });
  }
  template <typename Service, typename Base, typename Request,
            typename Response>
  void NotImplemented(Service& service, std::string name,
                      void (Base::*request)(grpc::ServerContext*, Request*,
                                            grpc::ServerAsyncWriter<Response>*,
                                            grpc::CompletionQueue*,
                                            grpc::ServerCompletionQueue*,
                                            void*)) {
    AddMethod<ServerStreamCall<Service, Request, Response>>(
        service, {name, Role::kNone}, request,
        [name](CallContext&, const Request&) {
          return NotImplementedError(name);
        });
  }
  template <typename Service, typename Base, typename Request,
            typename Response>
  void NotImplemented(
      Service& service, std::string name,
      void (Base::*request)(grpc::ServerContext*,
                            grpc::ServerAsyncReader<Response, Request>*,
                            grpc::CompletionQueue*,
                            grpc::ServerCompletionQueue*, void*)) {
    AddMethod<ClientStreamCall<Service, Request, Response>>(
        service, {name, Role::kNone}, request,
        [name](CallContext&) { return NotImplementedError(name); });
  }
  template <typename Service, typename Base, typename Request,
            typename Response>
  void NotImplemented(
      Service& service, std::string name,
      void (Base::*request)(grpc::ServerContext*,
                            grpc::ServerAsyncReaderWriter<Response, Request>*,
                            grpc::CompletionQueue*,
                            grpc::ServerCompletionQueue*, void*)) {
    AddMethod<BidiStreamCall<Service, Request, Response>>(
        service, {name, Role::kNone}, request,
        [name](CallContext&) { return NotImplementedError(name); });
  }

  // What is registered, in the order of MethodTraits::index; the first is
  // what stands for unknown methods.
  std::vector<MethodTraits> method_traits() const;
  // Full names of the services added, in order.
  const std::vector<std::string>& service_names() const {
    return service_names_;
  }

  // Listens and serves. An error names the address that gRPC refused;
  // the server is then as if never started. `ports`, if not null, receives the
  // port of each listener (1 for a Unix socket).
  absl::Status Start(const std::vector<RpcListener>& listeners,
                     std::vector<int>* ports = nullptr);

  // Has every poller come round to a question; the last one calls `answered`.
  // REQUIRES: Start() has succeeded, Shutdown() has not begun, and the last
  // question was answered.
  void AskPollers(std::function<void()> answered);

  // From now on new calls are refused with DRAINING and streams that wait for
  // something end. Idempotent.
  void BeginDrain();
  // Returns whether no call is under way; waits until then or `deadline`.
  bool WaitUntilIdle(absl::Time deadline);
  size_t active_count() const { return core_.active_count(); }
  // A round of what the server does every quarter of max_unread_time.
  void CutOffSlowReaders() { core_.CutOffSlowReaders(kUnreadRounds); }
  std::vector<ActiveCall> active_calls() const { return core_.ActiveCalls(); }
  bool draining() const { return core_.draining().load(); }
  // Ends the calls that are under way with DRAINING, cancels those whose client
  // does not take that, waits for all of them, stops. A unary handler may
  // still run: the executor waits for it.
  void Shutdown();

 private:
  template <typename CallType, typename Service, typename RequestFunction,
            typename Handler, typename... More>
  void AddMethod(Service& service, MethodTraits traits, RequestFunction request,
                 Handler handler, More... more) {
    traits.index = static_cast<int>(methods_.size());
    traits.is_stream = CallType::kIsStream;
    auto binding = std::make_shared<typename CallType::Binding>(
        typename CallType::Binding{service, std::mem_fn(request),
                                   std::move(handler), std::move(more)...});
    methods_.push_back(Method{
        std::move(traits),
        [binding](const Method& method, ServerCore& core,
                  grpc::ServerCompletionQueue& cq) -> std::shared_ptr<Call> {
          return std::make_shared<CallType>(method, core, cq, *binding);
        }});
  }

  // A round that has begun does not count as a whole one.
  static constexpr int kUnreadRounds = 5;

  static absl::Duration RoundOf(const Options& options) {
    return options.max_unread_time / (kUnreadRounds - 1);
  }
  // What is to be read of a message in a round, at least.
  static int64_t MinBytesPerRound(const Options& options);

  void Poll(grpc::ServerCompletionQueue& cq, PollerProbe& probe);

  const Options options_;
  ServerCore core_;
  std::deque<Method> methods_;  // calls refer to their method
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::vector<std::string> service_names_;
  grpc::AsyncGenericService unknown_methods_;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues_;
  std::deque<PollerProbe> probes_;  // one for each queue
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::thread> pollers_;
  absl::Notification stopping_;
  std::thread sweeper_;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_RPC_SERVER_H_
