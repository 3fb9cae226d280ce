#include "client/tdpbench/daemon_cpu.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(DaemonCpuTest, FindsTheTimesBehindAnyName) {
  EXPECT_EQ(
      CpuInStat("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0", 100),
      absl::Seconds(2));
  EXPECT_EQ(CpuInStat("", 100), std::nullopt);
  EXPECT_EQ(CpuInStat("7 (tdpd) S 1 2", 100), std::nullopt);
  EXPECT_EQ(CpuInStat("7 (tdpd) S 1 2 3 4 5 6 7 8 9 10 x 50 0", 100),
            std::nullopt);
}

TEST(DaemonCpuTest, KnowsWhoListensOnAUnixSocket) {
  char folder[] = "/tmp/tdpbench-cpu-test-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/socket";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  ASSERT_EQ(listen(fd, 1), 0);
  const DaemonCpu cpu(Target{.address = "unix:" + path});
  const auto before = cpu.Now();
  ASSERT_TRUE(before.has_value()) << "this process listens";
  // Until the kernel's clock has moved.
  volatile uint64_t work = 0;
  while (*cpu.Now() == *before) {
    for (int i = 0; i < 100000; ++i) work = work + 1;
  }
  EXPECT_GT(*cpu.Now(), *before);
  close(fd);
  unlink(path.c_str());
  rmdir(folder);
}

TEST(DaemonCpuTest, KnowsNothingOfOtherTargets) {
  EXPECT_EQ(DaemonCpu(Target{.address = "localhost:1"}).Now(), std::nullopt);
  EXPECT_EQ(DaemonCpu(Target{.address = "unix:/nowhere/socket"}).Now(),
            std::nullopt);
  EXPECT_EQ(DaemonCpu(Target{.address = "unix:" + std::string(200, 'x')}).Now(),
            std::nullopt);
}

}  // namespace
}  // namespace tdp::client
