// The daemon as a service manager sees it that it has to report to.

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstring>

#include "gmock/gmock.h"
#include "server/daemon_fixture.h"

namespace tdp::server {
namespace {

using testing::StartsWith;

class DaemonNotifyTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    notify_socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = folder_ + "/file";
    memcpy(address.sun_path, name.data(), name.size());
    ASSERT_EQ(bind(notify_socket_, reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)),
              0);
    const timeval limit = {.tv_sec = 60, .tv_usec = 0};
    setsockopt(notify_socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setenv("NOTIFY_SOCKET", name.c_str(), /*overwrite=*/1);
  }

  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    close(notify_socket_);
    DaemonTest::TearDown();
  }

  // The next message; "" after a minute without one.
  std::string NextMessage() {
    char text[4096];
    const ssize_t size = recv(notify_socket_, text, sizeof(text), 0);
    return size < 0 ? "" : std::string(text, static_cast<size_t>(size));
  }

  int notify_socket_ = -1;
};

TEST_F(DaemonNotifyTest, IsReadyWhenItServesAndSaysThatItLivesAndStops) {
  setenv("WATCHDOG_USEC", "20000", /*overwrite=*/1);
  DaemonProcess& daemon = Serve();
  EXPECT_THAT(NextMessage(), StartsWith("READY=1\nSTATUS=tdpd "));
  EXPECT_TRUE(GetInfo(channel_).ok()) << "it said that it serves";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(NextMessage(), "WATCHDOG=1");
  daemon.Signal(SIGTERM);
  std::string message = NextMessage();
  while (message == "WATCHDOG=1") message = NextMessage();
  EXPECT_THAT(message, StartsWith("STOPPING=1\n"));
  EXPECT_EQ(daemon.AwaitExit(), 0);
}

TEST_F(DaemonNotifyTest, IsNotReadyIfItCannotServe) {
  DaemonProcess& daemon = Run({"--listen=unix:/nonexistent/folder/socket"});
  EXPECT_EQ(daemon.AwaitExit(), 1);
  char text[1];
  EXPECT_EQ(recv(notify_socket_, text, sizeof(text), MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

}  // namespace
}  // namespace tdp::server
