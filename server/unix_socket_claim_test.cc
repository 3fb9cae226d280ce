#include "server/unix_socket_claim.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

// A socket that is bound to `path` and listens.
class Listener {
 public:
  explicit Listener(const std::string& path) {
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(
        bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
        0);
    EXPECT_EQ(listen(fd_, 1), 0);
  }
  // As a process that dies: the file stays.
  ~Listener() { close(fd_); }

 private:
  int fd_;
};

class UnixSocketClaimTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-claim-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/socket";
  }
  void TearDown() override {
    unlink(path_.c_str());
    EXPECT_EQ(rmdir(folder_.c_str()), 0) << "something was left behind";
  }
  static bool Exists(const std::string& path) {
    struct stat info;
    return lstat(path.c_str(), &info) == 0;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(UnixSocketClaimTest, TakesAFreePathAndLeavesNothing) {
  auto claim = UnixSocketClaim::Take(path_);
  ASSERT_TRUE(claim.ok()) << claim.status();
  EXPECT_TRUE(Exists(path_ + ".lock"));
  Listener listener(path_);
  ASSERT_TRUE((*claim)->SetAccess(std::nullopt).ok());
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0660u);
  claim->reset();
  EXPECT_FALSE(Exists(path_));
}

TEST_F(UnixSocketClaimTest, ReplacesTheSocketOfADaemonThatIsGone) {
  {
    Listener gone(path_);
  }
  ASSERT_TRUE(Exists(path_));
  const auto claim = UnixSocketClaim::Take(path_);
  ASSERT_TRUE(claim.ok()) << claim.status();
  EXPECT_FALSE(Exists(path_));
}

TEST_F(UnixSocketClaimTest, RefusesASocketThatSomebodyListensOn) {
  Listener alive(path_);
  const auto claim = UnixSocketClaim::Take(path_);
  ASSERT_FALSE(claim.ok());
  EXPECT_TRUE(absl::StrContains(claim.status().message(), "listens there"));
  EXPECT_TRUE(Exists(path_));
}

TEST_F(UnixSocketClaimTest, RefusesASecondClaim) {
  const auto first = UnixSocketClaim::Take(path_);
  ASSERT_TRUE(first.ok());
  const auto second = UnixSocketClaim::Take(path_);
  ASSERT_FALSE(second.ok());
  EXPECT_TRUE(absl::StrContains(second.status().message(),
                                "another daemon runs there"));
}

TEST_F(UnixSocketClaimTest, RefusesAFileThatIsNoSocket) {
  const int fd = open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  close(fd);
  const auto claim = UnixSocketClaim::Take(path_);
  ASSERT_FALSE(claim.ok());
  EXPECT_TRUE(absl::StrContains(claim.status().message(), "not a socket"));
  EXPECT_TRUE(Exists(path_)) << "somebody's file must not be removed";
}

TEST_F(UnixSocketClaimTest, MakesTheLastFolderOnly) {
  const std::string folder = folder_ + "/new";
  {
    const auto claim = UnixSocketClaim::Take(folder + "/socket");
    EXPECT_TRUE(claim.ok()) << claim.status();
  }
  EXPECT_EQ(rmdir(folder.c_str()), 0);
  const auto claim = UnixSocketClaim::Take(folder_ + "/a/b/socket");
  EXPECT_FALSE(claim.ok());
  EXPECT_TRUE(
      absl::StrContains(claim.status().message(), "No such file or directory"));
}

TEST_F(UnixSocketClaimTest, IsFreeAgainAfterItsProcessWasKilled) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto claim = UnixSocketClaim::Take(path_);
    Listener listener(path_);
    const char byte = claim.ok() ? 1 : 0;
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    while (true) pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 1);
  EXPECT_FALSE(UnixSocketClaim::Take(path_).ok());
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(Exists(path_));
  EXPECT_TRUE(UnixSocketClaim::Take(path_).ok());
  close(ready[0]);
  close(ready[1]);
}

// Many take and release the path; never do two hold it.
TEST_F(UnixSocketClaimTest, BelongsToOneHoweverManyRace) {
  std::atomic<int> holders = 0;
  std::atomic<int> taken = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (taken < 200) {
        const auto claim = UnixSocketClaim::Take(path_);
        if (!claim.ok()) continue;
        ++taken;
        EXPECT_EQ(++holders, 1);
        --holders;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tdp::server
