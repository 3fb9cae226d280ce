// Every service of the daemon in the test's own process, behind a real gRPC
// server on a Unix socket, with an engine that the test can look into.

#ifndef SERVER_SERVICE_FIXTURE_H_
#define SERVER_SERVICE_FIXTURE_H_

#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_registry.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/server_credentials.h"
#include "gtest/gtest.h"
#include "server/base/executor.h"
#include "server/rpc/rpc_server.h"
#include "server/services/services.h"
#include "server/testing/fake_vm_registry.h"
#include "tdp/v1/error.pb.h"

namespace tdp::server {

// The reason of an error as it came over the wire, or "none".
inline std::string ReasonOf(const grpc::Status& status) {
  v1::RpcStatus details;
  v1::ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) ||
      details.details_size() == 0 ||
      !info.ParseFromString(details.details(0).value())) {
    return "none";
  }
  return info.reason();
}

// What the tests of all services share; a test of a suite with parameters mixes
// it in.
class ServiceServer {
 public:
  ServiceServer() {
    char folder[] = "/tmp/tdpd-service-test-XXXXXX";
    if (mkdtemp(folder) == nullptr) abort();
    folder_ = folder;
  }
  ServiceServer(const ServiceServer&) = delete;
  ServiceServer& operator=(const ServiceServer&) = delete;
  ~ServiceServer() {
    Stop();
    unlink(path().c_str());
    rmdir(folder_.c_str());
  }

  // Serves `registry`.
  void Start(std::unique_ptr<VmRegistry> registry,
             RpcServer::Options options = {}) {
    registry_ = std::move(registry);
    executor_ = std::make_unique<Executor>(Executor::Options{
        .thread_count = 8, .max_queued = limits::kMaxQueuedCalls});
    services_ = std::make_unique<Services>(*registry_, *executor_);
    server_ = std::make_unique<RpcServer>(options, *executor_);
    services_->AddTo(*server_);
    const absl::Status started = server_->Start(
        {{absl::StrCat("unix:", path()), grpc::InsecureServerCredentials()}});
    ASSERT_TRUE(started.ok()) << started;
  }
  // Serves the fake engine and returns it.
  FakeVmRegistry& StartFake(RpcServer::Options options = {}) {
    auto fake = std::make_unique<FakeVmRegistry>();
    FakeVmRegistry& result = *fake;
    Start(std::move(fake), options);
    return result;
  }
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown();
    EXPECT_EQ(server_->active_count(), 0u);
    executor_->Shutdown();
    server_.reset();
    services_.reset();
    registry_.reset();
    executor_.reset();
  }

  const std::string& folder() const { return folder_; }
  std::string path() const { return absl::StrCat(folder_, "/s"); }
  VmRegistry& registry() { return *registry_; }
  RpcServer& server() { return *server_; }
  Services& services() { return *services_; }
  Executor& executor() { return *executor_; }
  std::shared_ptr<grpc::Channel> Connect() const {
    return grpc::CreateChannel(absl::StrCat("unix:", path()),
                               grpc::InsecureChannelCredentials());
  }

 private:
  std::string folder_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<VmRegistry> registry_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICE_FIXTURE_H_
