#include "server/bench/echo.h"
#include "tdp/v1/mmu_service.grpc.pb.h"

namespace tdp::server::bench {
namespace {

class EchoService final : public v1::MmuService::Service {
 public:
  explicit EchoService(const Canned& canned) : canned_(canned) {}

  grpc::Status WalkGfn(grpc::ServerContext*, const v1::WalkGfnRequest*,
                       v1::WalkGfnResponse* response) override {
    *response = canned_.walk_gfn;
    return grpc::Status::OK;
  }
  grpc::Status WalkFrames(grpc::ServerContext*, const v1::WalkFramesRequest*,
                          v1::WalkFramesResponse* response) override {
    *response = canned_.walk_frames;
    return grpc::Status::OK;
  }

 private:
  const Canned& canned_;
};

}  // namespace

void ServeSync(const std::string& address, const Canned& canned) {
  EchoService service(canned);
  ServeUntilKilled(address, service);
}

}  // namespace tdp::server::bench
