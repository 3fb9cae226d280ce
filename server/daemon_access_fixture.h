// What callers of different kinds may do with a daemon.

#ifndef SERVER_DAEMON_ACCESS_FIXTURE_H_
#define SERVER_DAEMON_ACCESS_FIXTURE_H_

#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/support/channel_arguments.h"
#include "server/daemon_fixture.h"

namespace tdp::server {

class DaemonAccessTest : public DaemonTest {
 protected:
  using Channel = std::shared_ptr<grpc::Channel>;

  void SetUp() override {
    DaemonTest::SetUp();
    policy_ = folder_ + "/policy";
  }
  void TearDown() override {
    for (const char* name : {"policy", "server-cert", "server-key", "ca"}) {
      unlink((folder_ + "/" + name).c_str());
    }
    DaemonTest::TearDown();
  }

  // In one step, as configuration tools do it.
  void WritePolicy(const std::string& text) {
    Write("policy.next", text);
    std::filesystem::rename(folder_ + "/policy.next", policy_);
  }
  void Write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << text;
    chmod(path.c_str(), 0644);
  }

  // A channel with a connection of its own.
  static Channel Connect(
      const std::string& address,
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, credentials, arguments);
  }

  // Calls that ask for a role each; the VM does not exist.
  grpc::Status Observe(const Channel& channel) { return GetInfo(channel); }
  static grpc::Status Operate(const Channel& channel) {
    grpc::ClientContext context;
    v1::StartVmRequest request;
    request.set_name("vms/nowhere");
    v1::StartVmResponse response;
    return v1::VmService::NewStub(channel)->StartVm(&context, request,
                                                    &response);
  }
  static grpc::Status Administer(const Channel& channel) {
    grpc::ClientContext context;
    v1::DeleteVmRequest request;
    request.set_name("vms/nowhere");
    v1::DeleteVmResponse response;
    return v1::VmService::NewStub(channel)->DeleteVm(&context, request,
                                                     &response);
  }
  static grpc::Status CheckHealth(const Channel& channel) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    return grpc::health::v1::Health::NewStub(channel)->Check(
        &context, grpc::health::v1::HealthCheckRequest(), &response);
  }
  // The role that the answers to these calls show; "unknown" for a caller who
  // is not identified, "no connection" if there is none.
  std::string RoleOf(const Channel& channel) {
    const grpc::Status observed = Observe(channel);
    if (observed.error_code() == grpc::StatusCode::UNAVAILABLE) {
      return "no connection";
    }
    if (ReasonOf(observed) == "UNAUTHENTICATED") return "unknown";
    const bool operates = ReasonOf(Operate(channel)) == "RESOURCE_NOT_FOUND";
    const bool administers =
        ReasonOf(Administer(channel)) == "RESOURCE_NOT_FOUND";
    if (administers) return operates && observed.ok() ? "admin" : "a mixture";
    if (operates) return observed.ok() ? "operator" : "a mixture";
    if (observed.ok()) return "observer";
    return ReasonOf(observed) == "ROLE_DENIED" ? "none" : ReasonOf(observed);
  }

  // Waits until `condition` holds; false if it does not for very long.
  static bool Await(const std::function<bool()>& condition) {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    while (!condition()) {
      if (absl::Now() > give_up) return false;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return true;
  }
  static bool AwaitOutput(const DaemonProcess& daemon, const std::string& text,
                          int count = 1) {
    return Await([&] { return CountOf(daemon.Output(), text) >= count; });
  }

  std::string policy_;
};

}  // namespace tdp::server

#endif  // SERVER_DAEMON_ACCESS_FIXTURE_H_
