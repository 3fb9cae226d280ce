#include "server/guard/unix_peer.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpcpp/create_channel.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "server/guard/guard_stats.h"
#include "server/guard/interpose.h"
#include "tdp/v1/info_service.grpc.pb.h"

namespace tdp::server {
namespace {

TEST(ConnectionNumberTest, IsReadFromAPeerOfAUnixSocketOnly) {
  EXPECT_EQ(ConnectionNumberOf("ipv6:%5B100::1%5D:0"), 1);
  EXPECT_EQ(ConnectionNumberOf("ipv6:[100::2a]:0"), 42);
  EXPECT_EQ(ConnectionNumberOf("ipv6:%5B100::ffff:ffff:ffff:ffff%5D:0"),
            ~uint64_t{0});
  EXPECT_EQ(ConnectionNumberOf("ipv6:%5B100::1:0:0:0%5D:0"), uint64_t{1} << 48);
  for (const char* other :
       {"", "unix:", "unix:/run/socket", "ipv4:127.0.0.1:80",
        "ipv6:", "ipv6:%5B", "ipv6:%5B::1%5D:80", "ipv6:%5B100:1::1%5D:80",
        "ipv6:%5B1000::1%5D:80", "ipv6:%5B100::x%5D:0", "ipv6:%5B100::%5D:0",
        "ipv6:100::1", "ipv4:[100::1]:0",
        "ipv6:%5B100::1111111111111111111111111111111111111111111%5D:0"}) {
    EXPECT_EQ(ConnectionNumberOf(other), 0) << other;
    EXPECT_EQ(FindUnixPeer(other), nullptr) << other;
  }
}

// A server whose calls are taken by hand.
class UnixPeerTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(CheckInterposition().ok()) << CheckInterposition();
    char folder[] = "/tmp/tdpd-unix-peer-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(Target(), grpc::InsecureServerCredentials());
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterAsyncGenericService(&service_);
    calls_ = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    Drain(*calls_);
    EXPECT_EQ(rmdir(folder_.c_str()), 0);
  }
  static void Drain(grpc::CompletionQueue& queue) {
    queue.Shutdown();
    void* tag;
    bool ok;
    while (queue.Next(&tag, &ok)) {
    }
  }
  std::string Target() const { return "unix:" + folder_ + "/socket"; }

  static std::shared_ptr<grpc::Channel> NewChannel(const std::string& target) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  // How the server names the peer of a call over `channel`; `look` sees it
  // while the call is open.
  std::string PeerOf(
      const std::shared_ptr<grpc::Channel>& channel,
      const std::function<void(const std::string&)>& look = [](const auto&) {
      }) {
    grpc::GenericServerContext context;
    grpc::GenericServerAsyncReaderWriter stream(&context);
    service_.RequestCall(&context, &stream, calls_.get(), calls_.get(),
                         &context);
    std::thread client([&] {
      grpc::ClientContext client_context;
      v1::GetInfoResponse response;
      const grpc::Status status = v1::InfoService::NewStub(channel)->GetInfo(
          &client_context, v1::GetInfoRequest(), &response);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
    });
    AwaitCall();
    const std::string peer = context.peer();
    look(peer);
    stream.Finish(grpc::Status(grpc::StatusCode::ABORTED, ""), &context);
    AwaitCall();
    client.join();
    return peer;
  }
  // gRPC closes what it sees while somebody polls.
  void AwaitNoConnection() {
    while (Stats().open_connections > 0) {
      void* tag;
      bool ok;
      calls_->AsyncNext(
          &tag, &ok,
          std::chrono::system_clock::now() + std::chrono::milliseconds(1));
    }
  }
  void AwaitCall() {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(calls_->Next(&tag, &ok) && ok);
  }

  std::string folder_;
  int port_ = 0;
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> calls_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(UnixPeerTest, APeerOfAUnixSocketIsTheProcessThatConnected) {
  PeerOf(NewChannel(Target()), [](const std::string& name) {
    const auto peer = FindUnixPeer(name);
    ASSERT_NE(peer, nullptr) << name;
    EXPECT_EQ(peer->uid, getuid());
    EXPECT_EQ(peer->gid, getgid());
    EXPECT_EQ(peer->pid, getpid());
    std::vector<gid_t> groups(getgroups(0, nullptr));
    getgroups(static_cast<int>(groups.size()), groups.data());
    EXPECT_EQ(peer->groups, groups);
  });
}

TEST_F(UnixPeerTest, APeerOnTcpIsNoUnixPeer) {
  PeerOf(NewChannel("127.0.0.1:" + std::to_string(port_)),
         [](const std::string& name) {
           EXPECT_EQ(ConnectionNumberOf(name), 0) << name;
           EXPECT_EQ(FindUnixPeer(name), nullptr) << name;
         });
}

TEST_F(UnixPeerTest, APeerThatIsGoneIsNobodyNotTheNextClient) {
  const std::string first = PeerOf(NewChannel(Target()));
  EXPECT_NE(ConnectionNumberOf(first), 0) << first;
  AwaitNoConnection();
  EXPECT_EQ(FindUnixPeer(first), nullptr);

  PeerOf(NewChannel(Target()), [&](const std::string& second) {
    EXPECT_NE(FindUnixPeer(second), nullptr);
    EXPECT_NE(second, first);
    EXPECT_EQ(FindUnixPeer(first), nullptr);
  });
}

}  // namespace
}  // namespace tdp::server
