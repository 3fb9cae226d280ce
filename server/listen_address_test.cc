#include "server/listen_address.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

std::string ErrorOf(const std::string& text) {
  return std::string(ParseListenAddresses(text).status().message());
}

TEST(ListenAddressTest, TakesUnixSocketsAndTcp) {
  const auto addresses = *ParseListenAddresses(
      "unix:/run/a.sock,unix:b.sock,127.0.0.1:4000,[::1]:0,example.org:1");
  ASSERT_EQ(addresses.size(), 5u);
  EXPECT_EQ(addresses[0].unix_path, "/run/a.sock");
  EXPECT_EQ(addresses[1].ToString(), "unix:b.sock");
  EXPECT_EQ(addresses[2].ToString(), "127.0.0.1:4000");
  EXPECT_EQ(addresses[3].ToString(), "[::1]:0");
  EXPECT_EQ(addresses[4].ToString(), "example.org:1");
  EXPECT_EQ(ParseListenAddresses("unix:///a")->front().unix_path, "/a");
}

TEST(ListenAddressTest, KnowsWhatOnlyThisMachineCanReach) {
  for (const char* text :
       {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"}) {
    EXPECT_TRUE(ParseListenAddresses(text)->front().is_loopback()) << text;
  }
  for (const char* text : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "127.1:1",
                           "localhost.example.org:1", "128.0.0.1:1"}) {
    EXPECT_FALSE(ParseListenAddresses(text)->front().is_loopback()) << text;
  }
  EXPECT_EQ(ParseListenAddresses("localhost:7")->front().ToString(),
            "127.0.0.1:7")
      << "a name must not be able to mean another address";
}

TEST(ListenAddressTest, RefusesMalformedAddressesWithASentence) {
  for (const char* text : {"", ",", "unix:/a,", "unix:", "unix://", "4000",
                           ":4000", "host:", "host:x", "host:65536", "host:-1",
                           "::1:4000", "[]:1", "/run/a.sock"}) {
    EXPECT_FALSE(ParseListenAddresses(text).ok()) << text;
    EXPECT_TRUE(absl::StartsWith(ErrorOf(text), "--listen: ")) << text;
  }
}

TEST(ListenAddressTest, LimitsTheLengthOfASocketsPath) {
  EXPECT_TRUE(ParseListenAddresses("unix:" + std::string(107, 'a')).ok());
  EXPECT_TRUE(absl::StrContains(ErrorOf("unix:" + std::string(108, 'a')),
                                "108 bytes; a Unix socket's path has at most "
                                "107"));
}

TEST(ListenAddressTest, RefusesAnAddressTwice) {
  EXPECT_TRUE(absl::StrContains(ErrorOf("unix:/a,unix:/a"), "twice"));
  EXPECT_TRUE(absl::StrContains(ErrorOf("localhost:1,127.0.0.1:1"), "twice"));
  EXPECT_TRUE(ParseListenAddresses("127.0.0.1:0,127.0.0.1:0").ok());
}

}  // namespace
}  // namespace tdp::server
