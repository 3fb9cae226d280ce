// What the watchdog of the service manager learns from the pollers.

#include <thread>

#include "absl/synchronization/notification.h"
#include "server/rpc/rpc_server_fixture.h"

namespace tdp::server {
namespace {

class PollerProbeTest : public RpcServerTest {};

TEST_P(PollerProbeTest, IsAnsweredByPollersThatMove) {
  Start();
  for (int i = 0; i < 100; ++i) {
    absl::Notification answered;
    server_->AskPollers([&] { answered.Notify(); });
    answered.WaitForNotification();
    EXPECT_TRUE(CallShort().ok());
  }
}

TEST_P(PollerProbeTest, IsNotAnsweredWhileAPollerIsStuck) {
  absl::Notification stuck;
  absl::Notification let_go;
  handlers_.on_short = [&](CallContext&) {
    stuck.Notify();
    let_go.WaitForNotification();
    return absl::OkStatus();
  };
  Start();
  std::thread caller([this] { EXPECT_TRUE(CallShort().ok()); });
  stuck.WaitForNotification();
  absl::Notification answered;
  server_->AskPollers([&] { answered.Notify(); });
  EXPECT_FALSE(answered.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
  let_go.Notify();
  answered.WaitForNotification();
  caller.join();
}

TEST_P(PollerProbeTest, MayBeOpenWhenTheServerEnds) {
  Start();
  auto answers = std::make_shared<std::atomic<int>>(0);
  server_->AskPollers([answers] { ++*answers; });
  server_->Shutdown();
  EXPECT_EQ(*answers, 1);
}

INSTANTIATE_TEST_SUITE_P(All, PollerProbeTest,
                         testing::Values(Param{RunOn::kExecutor, 1},
                                         Param{RunOn::kExecutor, 3}),
                         [](const auto& param) {
                           return absl::StrCat(param.param.poller_count,
                                               "_pollers");
                         });

}  // namespace
}  // namespace tdp::server
