// UnknownMethodCall: answers a call of a method that the server does not have,
// with a sentence that names it; gRPC's own answer says nothing.

#ifndef SERVER_RPC_UNKNOWN_METHOD_CALL_H_
#define SERVER_RPC_UNKNOWN_METHOD_CALL_H_

#include "grpcpp/generic/async_generic_service.h"
#include "server/rpc/call.h"

namespace tdp::server {

class UnknownMethodCall final : public Call {
 public:
  UnknownMethodCall(const Method& method, ServerCore& core,
                    grpc::ServerCompletionQueue& cq,
                    grpc::AsyncGenericService& service)
      : Call(method, core, cq), service_(service) {}

 private:
  grpc::ServerContext& server_context() override { return server_context_; }
  DefaultDeadline default_deadline() const override {
    return DefaultDeadline::kNone;
  }
  void RequestCall(void* tag) override {
    service_.RequestCall(&server_context_, &stream_, &cq(), &cq(), tag);
  }
  void Begin() override;
  void SendStatus(const grpc::Status& status, void* tag) override {
    stream_.Finish(status, tag);
  }

  grpc::AsyncGenericService& service_;
  grpc::GenericServerContext server_context_;
  grpc::GenericServerAsyncReaderWriter stream_{&server_context_};
};

}  // namespace tdp::server

#endif  // SERVER_RPC_UNKNOWN_METHOD_CALL_H_
