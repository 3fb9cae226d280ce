// A server of one method behind the gate, and who is let in to it.

#include "server/access/access_gate.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/base/executor.h"
#include "server/rpc/rpc_server.h"
#include "tdp/v1/info_service.grpc.pb.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

constexpr uid_t kSomebody = 4000000;

// Remembers who called.
class Handler {
 public:
  absl::Status GetInfo(CallContext& context, const v1::GetInfoRequest&,
                       v1::GetInfoResponse*) {
    peer_ = context.peer();
    return absl::OkStatus();
  }
  const std::shared_ptr<const Peer>& peer() const { return peer_; }

 private:
  std::shared_ptr<const Peer> peer_;
};

class AccessGateTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-access-gate-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
  }
  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown();
    executor_.Shutdown();
    std::filesystem::remove_all(folder_);
  }

  void WritePolicy(const std::string& text) {
    std::ofstream(folder_ + "/policy") << text;
  }
  // GetInfo() asks for `role`.
  void Serve(Role role) {
    auto policy =
        PolicySource::Open(folder_ + "/policy", geteuid(), SystemNames());
    ASSERT_TRUE(policy.ok()) << policy.status();
    policy_ = *std::move(policy);
    gate_ = std::make_unique<AccessGate>(
        *policy_,
        [this](absl::string_view address)
            -> std::shared_ptr<const UnixCredentials> {
          EXPECT_FALSE(address.empty());
          ++lookup_count_;
          return credentials_;
        });
    server_ = std::make_unique<RpcServer>(
        RpcServer::Options{.gates = {gate_.get()}}, executor_);
    using S = v1::InfoService::AsyncService;
    S& s = server_->AddService<v1::InfoService>();
    server_->Unary(s, {"InfoService.GetInfo", role, RunOn::kPoller},
                   &S::RequestGetInfo, &handler_, &Handler::GetInfo);
    const std::string address = absl::StrCat("unix:", folder_, "/socket");
    ASSERT_TRUE(
        server_->Start({{address, grpc::InsecureServerCredentials()}}, nullptr)
            .ok());
    channel_ = Connect();
  }
  std::shared_ptr<grpc::Channel> Connect() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(absl::StrCat("unix:", folder_, "/socket"),
                                     grpc::InsecureChannelCredentials(),
                                     arguments);
  }
  grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    v1::GetInfoResponse response;
    return v1::InfoService::NewStub(channel)->GetInfo(
        &context, v1::GetInfoRequest(), &response);
  }
  grpc::Status Call() { return Call(channel_); }

  // What is known of who connects. Set while no call runs.
  std::shared_ptr<const UnixCredentials> credentials_ =
      std::make_shared<const UnixCredentials>(
          UnixCredentials{kSomebody, kSomebody, 1, {}});
  std::string folder_;
  std::unique_ptr<PolicySource> policy_;
  std::atomic<int> lookup_count_ = 0;
  std::unique_ptr<AccessGate> gate_;
  Handler handler_;
  Executor executor_{{.thread_count = 1, .max_queued = 1}};
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(AccessGateTest, SaysToTheHandlerWhoCalls) {
  WritePolicy("operator uid:4000000\n");
  Serve(Role::kObserver);
  ASSERT_TRUE(Call().ok());
  ASSERT_NE(handler_.peer(), nullptr);
  EXPECT_EQ(handler_.peer()->identity, "uid:4000000");
  EXPECT_EQ(handler_.peer()->role, Role::kOperator);
  EXPECT_EQ(handler_.peer()->id, PeerId("uid:4000000"));
  EXPECT_NE(handler_.peer()->id, PeerId("uid:4000001"));
}

TEST_F(AccessGateTest, ConnectionsOfOneUserAreOnePeer) {
  WritePolicy("operator uid:4000000\n");
  Serve(Role::kObserver);
  ASSERT_TRUE(Call().ok());
  const uint64_t first = handler_.peer()->id;
  ASSERT_TRUE(Call(Connect()).ok());
  EXPECT_EQ(handler_.peer()->id, first);
  EXPECT_EQ(lookup_count_, 2) << "each connection is looked at";
}

TEST_F(AccessGateTest, LooksAtAConnectionOnceForEachPolicy) {
  WritePolicy("observer uid:4000000\n");
  Serve(Role::kObserver);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(Call().ok());
  EXPECT_EQ(lookup_count_, 1);
  WritePolicy("operator uid:4000000\n");
  policy_->Refresh();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(Call().ok());
  EXPECT_EQ(lookup_count_, 2);
  EXPECT_EQ(handler_.peer()->role, Role::kOperator);
}

TEST_F(AccessGateTest, ConnectionsThatExistAreNotMistakenForEachOther) {
  WritePolicy("observer uid:4000000\n");
  Serve(Role::kObserver);
  ASSERT_TRUE(Call().ok());
  credentials_ = std::make_shared<const UnixCredentials>(
      UnixCredentials{kSomebody + 1, kSomebody, 1, {}});
  EXPECT_EQ(Call(Connect()).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(Call().ok());
}

TEST_F(AccessGateTest, RefusesAndCountsARoleThatDoesNotSuffice) {
  WritePolicy("operator uid:4000000\n");
  Serve(Role::kAdmin);
  const grpc::Status status = Call();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(),
              HasSubstr("needs the role admin, but uid:4000000 has operator"));
  EXPECT_EQ(handler_.peer(), nullptr) << "the handler must not run";
  const AccessStats stats = gate_->stats();
  EXPECT_EQ(stats.role_denied_count[static_cast<int>(Role::kAdmin)], 1);
  EXPECT_EQ(stats.role_denied_count[static_cast<int>(Role::kOperator)], 0);
  EXPECT_EQ(stats.unauthenticated_count, 0);
}

TEST_F(AccessGateTest, RefusesWhoIsNotKnownUntilHeIs) {
  WritePolicy("admin uid:4000000\n");
  const auto known = std::exchange(credentials_, nullptr);
  Serve(Role::kObserver);
  EXPECT_EQ(Call().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(gate_->stats().unauthenticated_count, 1);
  credentials_ = known;
  EXPECT_TRUE(Call().ok());
}

TEST_F(AccessGateTest, OpenMethodsAreForEverybody) {
  WritePolicy("none uid:4000000\n");
  Serve(Role::kNone);
  EXPECT_TRUE(Call().ok());
  EXPECT_EQ(handler_.peer()->identity, "uid:4000000");
  EXPECT_EQ(handler_.peer()->role, Role::kNone);
  credentials_ = nullptr;
  EXPECT_TRUE(Call(Connect()).ok());
  EXPECT_EQ(handler_.peer(), nullptr);
  EXPECT_EQ(gate_->stats().unauthenticated_count, 0);
}

TEST(RoleDeniedErrorTest, HoldsWhatTheMessageSays) {
  const absl::Status status = RoleDeniedError(
      {"VmService.DeleteVm", Role::kAdmin}, {"dns:a", Role::kNone, 1});
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("dns:a has no role"));
  const auto detail = DetailOf(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, ErrorReason::kRoleDenied);
  const ErrorMetadata expected = {{"method", "VmService.DeleteVm"},
                                  {"neededRole", "admin"},
                                  {"role", "none"},
                                  {"identity", "dns:a"}};
  EXPECT_EQ(detail->metadata, expected);
}

}  // namespace
}  // namespace tdp::server
