// The messages are read from a socket of the test's own, as systemd reads them.

#include "server/base/service_manager.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

class ServiceManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd_notify_XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
  }

  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    if (socket_ >= 0) close(socket_);
    unlink((folder_ + "/notify").c_str());
    rmdir(folder_.c_str());
  }

  // Listens as $NOTIFY_SOCKET says it: "@..." is an abstract name.
  void Listen(const std::string& name) {
    socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ASSERT_GE(socket_, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = 0;
    const auto size =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    ASSERT_EQ(bind(socket_, reinterpret_cast<const sockaddr*>(&address), size),
              0)
        << strerror(errno);
    const timeval limit = {.tv_sec = 60, .tv_usec = 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setenv("NOTIFY_SOCKET", name.c_str(), /*overwrite=*/1);
  }
  void Listen() { Listen(folder_ + "/notify"); }

  void SetWatchdog(absl::Duration limit) {
    setenv("WATCHDOG_USEC",
           absl::StrCat(absl::ToInt64Microseconds(limit)).c_str(),
           /*overwrite=*/1);
  }

  // The next message; "" after a minute without one.
  std::string NextMessage() {
    char text[4096];
    const ssize_t size = recv(socket_, text, sizeof(text), 0);
    return size < 0 ? "" : std::string(text, static_cast<size_t>(size));
  }

  static constexpr char kStopping[] = "STOPPING=1\nWATCHDOG=1\nSTATUS=draining";
  std::string folder_;
  int socket_ = -1;
};

TEST_F(ServiceManagerTest, SaysWhenItServesAndWhenItStops) {
  Listen();
  ServiceManager manager;
  manager.Ready("serving on a socket");
  manager.Stopping();
  EXPECT_EQ(NextMessage(), "READY=1\nSTATUS=serving on a socket");
  EXPECT_EQ(NextMessage(), kStopping);
}

TEST_F(ServiceManagerTest, FindsAnAbstractSocket) {
  Listen(absl::StrCat("@", folder_));
  ServiceManager manager;
  manager.Ready("");
  EXPECT_EQ(NextMessage(), "READY=1\nSTATUS=");
}

TEST_F(ServiceManagerTest, AsksNobodyWhereNoWatchdogIsWanted) {
  Listen();
  ServiceManager manager;
  bool asked = false;
  manager.StartWatchdog([&](const auto&) { asked = true; });
  manager.Stopping();
  EXPECT_FALSE(asked);
  EXPECT_EQ(NextMessage(), kStopping);
}

TEST_F(ServiceManagerTest, SaysNothingWhereNobodyListens) {
  SetWatchdog(absl::Milliseconds(10));
  ServiceManager manager;
  manager.Ready("serving");
  manager.StartWatchdog([](const auto& answered) { answered(); });
  manager.Stopping();
}

TEST_F(ServiceManagerTest, PassesEachAnswerOn) {
  Listen();
  SetWatchdog(absl::Milliseconds(2));
  ServiceManager manager;
  manager.StartWatchdog([](const auto& answered) { answered(); });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(NextMessage(), "WATCHDOG=1");
}

TEST_F(ServiceManagerTest, SaysNothingOfTheLifeOfWhatDoesNotAnswer) {
  Listen();
  SetWatchdog(absl::Milliseconds(2));
  ServiceManager manager;
  int asked = 0;
  std::function<void()> late_answer;
  manager.StartWatchdog([&](std::function<void()> answered) {
    if (++asked == 1) return answered();
    late_answer = std::move(answered);
  });
  EXPECT_EQ(NextMessage(), "WATCHDOG=1");
  manager.Stopping();
  EXPECT_EQ(NextMessage(), kStopping) << "the second question is open";
  EXPECT_LE(asked, 2);
  if (late_answer) late_answer();
}

TEST_F(ServiceManagerTest, TakesAnAnswerThatComesFromElsewhere) {
  Listen();
  SetWatchdog(absl::Milliseconds(2));
  std::thread elsewhere;
  {
    ServiceManager manager;
    manager.StartWatchdog([&](std::function<void()> answered) {
      if (elsewhere.joinable()) elsewhere.join();
      elsewhere = std::thread(std::move(answered));
    });
    EXPECT_EQ(NextMessage(), "WATCHDOG=1");
    EXPECT_EQ(NextMessage(), "WATCHDOG=1");
  }
  elsewhere.join();
}

}  // namespace
}  // namespace tdp::server
