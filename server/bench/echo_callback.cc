#include "server/bench/echo.h"
#include "tdp/v1/mmu_service.grpc.pb.h"

namespace tdp::server::bench {
namespace {

class EchoService final : public v1::MmuService::CallbackService {
 public:
  explicit EchoService(const Canned& canned) : canned_(canned) {}

  grpc::ServerUnaryReactor* WalkGfn(grpc::CallbackServerContext* context,
                                    const v1::WalkGfnRequest*,
                                    v1::WalkGfnResponse* response) override {
    *response = canned_.walk_gfn;
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerUnaryReactor* WalkFrames(
      grpc::CallbackServerContext* context, const v1::WalkFramesRequest*,
      v1::WalkFramesResponse* response) override {
    *response = canned_.walk_frames;
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const Canned& canned_;
};

}  // namespace

void ServeByCallback(const std::string& address, const Canned& canned) {
  EchoService service(canned);
  ServeUntilKilled(address, service);
}

}  // namespace tdp::server::bench
