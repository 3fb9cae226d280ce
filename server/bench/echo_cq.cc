#include <memory>

#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/bench/echo.h"
#include "tdp/v1/mmu_service.grpc.pb.h"

namespace tdp::server::bench {
namespace {

using Service = v1::MmuService::AsyncService;

// A call, whose address is its tag twice: when it comes in, and when it is
// answered.
class Call {
 public:
  virtual ~Call() = default;
  virtual void Proceed() = 0;
};

template <typename Request, typename Response>
class EchoCall final : public Call {
 public:
  using Writer = grpc::ServerAsyncResponseWriter<Response>;
  using Ask = void (Service::*)(grpc::ServerContext*, Request*, Writer*,
                                grpc::CompletionQueue*,
                                grpc::ServerCompletionQueue*, void*);

  EchoCall(Service& service, grpc::ServerCompletionQueue& queue, Ask ask,
           const Response& answer)
      : service_(service), queue_(queue), ask_(ask), answer_(answer) {
    (service.*ask)(&context_, &request_, &writer_, &queue, &queue, this);
  }

  void Proceed() override {
    if (answered_) {
      delete this;
      return;
    }
    answered_ = true;
    new EchoCall(service_, queue_, ask_, answer_);
    writer_.Finish(answer_, grpc::Status::OK, this);
  }

 private:
  Service& service_;
  grpc::ServerCompletionQueue& queue_;
  const Ask ask_;
  const Response& answer_;
  bool answered_ = false;
  grpc::ServerContext context_;
  Request request_;
  Writer writer_{&context_};
};

}  // namespace

void ServeFromCompletionQueue(const std::string& address,
                              const Canned& canned) {
  Service service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const auto queue = builder.AddCompletionQueue();
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return;
  // They delete themselves.
  new EchoCall<v1::WalkGfnRequest, v1::WalkGfnResponse>(
      service, *queue, &Service::RequestWalkGfn, canned.walk_gfn);
  new EchoCall<v1::WalkFramesRequest, v1::WalkFramesResponse>(
      service, *queue, &Service::RequestWalkFrames, canned.walk_frames);
  AnnounceServing(address);
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) static_cast<Call*>(tag)->Proceed();
}

}  // namespace tdp::server::bench
