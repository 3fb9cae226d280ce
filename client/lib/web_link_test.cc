#include "client/lib/web_link.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class WebLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpctl-web-link-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/token";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  void Write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path_) << text;
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
  }
  std::string Problem() {
    return std::string(ReadWebToken(path_).status().message());
  }

  const std::string token_ = std::string(30, 'a') + "-_";
  std::string folder_;
  std::string path_;
};

TEST_F(WebLinkTest, PutsTheTokenWhereBrowsersKeepItToThemselves) {
  EXPECT_EQ(WebLink("127.0.0.1:9464", "abc"),
            "http://127.0.0.1:9464/#token=abc");
}

TEST_F(WebLinkTest, ReadsATokenWithAndWithoutTheEndOfItsLine) {
  for (const char* end : {"", "\n"}) {
    Write(token_ + end);
    const auto token = ReadWebToken(path_);
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(*token, token_);
  }
}

TEST_F(WebLinkTest, SaysHowToTurnThePageOnWhereThereIsNoToken) {
  EXPECT_THAT(Problem(), HasSubstr("start tdpd with --http=127.0.0.1:9464 "
                                   "--web"));
}

TEST_F(WebLinkTest, SaysHowToMendAFileThatOthersCanRead) {
  for (const mode_t mode : {0640, 0604, 0400, 0700}) {
    Write(token_, mode);
    EXPECT_THAT(Problem(), HasSubstr("chmod 600 " + path_)) << mode;
  }
}

TEST_F(WebLinkTest, TakesNothingElseForATokenAndDoesNotShowIt) {
  for (const std::string& text :
       {std::string(), std::string(31, 'a'), std::string(257, 'a'),
        std::string(31, 'a') + "/", std::string(32, 'a') + "\n\n",
        std::string(32, 'a') + "\r\n", std::string(32, 'a') + " "}) {
    Write(text);
    EXPECT_THAT(Problem(), HasSubstr("holds no token")) << text;
    EXPECT_THAT(Problem(), Not(HasSubstr("aaa"))) << text;
  }
  for (const size_t size : {32, 256}) {
    Write(std::string(size, 'a') + "\n");
    EXPECT_TRUE(ReadWebToken(path_).ok()) << size;
  }
  unlink(path_.c_str());
  path_ = "/dev/null";
  EXPECT_THAT(Problem(), HasSubstr("is no regular file"));
  path_ = folder_ + "/none";
}

TEST_F(WebLinkTest, KnowsAnAddressWhenItSeesOne) {
  for (const char* address : {"127.0.0.1:1", "localhost:65535", "[::1]:9464"}) {
    EXPECT_TRUE(ParseHttpAddress(address).ok()) << address;
  }
  for (const char* address :
       {"", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
        "http://127.0.0.1:80", "a@b:1", "127.0.0.1:80/", "a#b:1"}) {
    EXPECT_FALSE(ParseHttpAddress(address).ok()) << address;
  }
}

}  // namespace
}  // namespace tdp::client
