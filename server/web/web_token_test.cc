#include "server/web/web_token.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;

class WebTokenTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-web-token-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/token";
  }
  void TearDown() override {
    unlink(path_.c_str());
    unlink((folder_ + "/other").c_str());
    rmdir(folder_.c_str());
  }
  void Write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path_) << text;
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
  }
  std::string Read() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string Problem() const {
    const auto token = WebToken::Open(path_);
    EXPECT_TRUE(absl::IsInvalidArgument(token.status())) << token.status();
    return std::string(token.status().message());
  }

  std::string folder_;
  std::string path_;
};

TEST_F(WebTokenTest, MakesAFileForItsOwnUserWithANewToken) {
  const mode_t old_mask = umask(0377);
  const auto token = WebToken::Open(path_);
  umask(old_mask);
  ASSERT_TRUE(token.ok()) << token.status();
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  const std::string first = Read();
  EXPECT_THAT(first, testing::MatchesRegex("[A-Za-z0-9_-]{43}\n"));
  EXPECT_TRUE(token->IsShownBy("Bearer " + first.substr(0, 43)));

  // The same the next time, and never the same twice.
  const auto again = WebToken::Open(path_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->IsShownBy("Bearer " + first.substr(0, 43)));
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_TRUE(WebToken::Open(path_).ok());
  EXPECT_NE(Read(), first);
}

TEST_F(WebTokenTest, IsShownByTheWholeTokenAndNothingElse) {
  const std::string text(kMinWebTokenChars, 'k');
  Write(text);
  const auto token = WebToken::Open(path_);
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_TRUE(token->IsShownBy("Bearer " + text));
  EXPECT_TRUE(token->IsShownBy("bearer " + text));
  for (const std::string& header :
       {std::string(), text, std::string("Bearer"), std::string("Bearer "),
        "Bearer " + text + "k", "Bearer " + text.substr(1), "Bearer  " + text,
        "Bearer l" + text.substr(1), "Bearer " + text.substr(1) + "l",
        "Basic " + text}) {
    EXPECT_FALSE(token->IsShownBy(header)) << header;
  }
}

TEST_F(WebTokenTest, TakesOnlyOneLineThatIsLongEnoughAndUrlSafe) {
  for (const size_t size : {kMinWebTokenChars, kMaxWebTokenChars}) {
    for (const char* end : {"", "\n"}) {
      Write(std::string(size, 'a') + end);
      EXPECT_TRUE(WebToken::Open(path_).ok()) << size;
    }
  }
  for (const std::string& text :
       {std::string(), std::string("\n"),
        std::string(kMinWebTokenChars - 1, 'a'),
        std::string(kMaxWebTokenChars + 1, 'a'), std::string(99999, 'a'),
        std::string(40, 'a') + "\n\n", std::string(40, 'a') + "\nb",
        std::string(40, 'a') + "\r\n", std::string(40, 'a') + "+",
        std::string(40, 'a') + "=", std::string(40, 'a') + " b",
        std::string(40, 'a') + std::string(1, '\0')}) {
    Write(text);
    EXPECT_THAT(Problem(), HasSubstr("must hold one line of 32 to 256"));
    EXPECT_THAT(Problem(), Not(HasSubstr("aaaa"))) << "an error is logged";
    EXPECT_EQ(Read(), text) << "nobody's file is overwritten";
  }
}

TEST_F(WebTokenTest, RefusesAFileThatOthersCouldRead) {
  for (const mode_t mode : {0640, 0604, 0644, 0660, 0400, 0700, 04600}) {
    Write(std::string(40, 'a'), mode);
    EXPECT_THAT(Problem(), HasSubstr("must have mode 0600")) << mode;
  }
}

TEST_F(WebTokenTest, RefusesWhatIsNoFileOfItsOwn) {
  ASSERT_EQ(symlink((folder_ + "/other").c_str(), path_.c_str()), 0);
  EXPECT_THAT(Problem(), HasSubstr("is a symbolic link"));
  EXPECT_NE(access((folder_ + "/other").c_str(), F_OK), 0)
      << "a link was followed";
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(Problem(), HasSubstr("is no regular file"));
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_EQ(mkdir(path_.c_str(), 0700), 0);
  EXPECT_THAT(Problem(), HasSubstr("is no regular file"));
  ASSERT_EQ(rmdir(path_.c_str()), 0);
  if (geteuid() == 0) {
    Write(std::string(40, 'a'));
    ASSERT_EQ(chown(path_.c_str(), 1, 1), 0);
    EXPECT_THAT(Problem(), HasSubstr("belongs to another user"));
  }
  path_ = "/nonexistent/token";
  EXPECT_THAT(Problem(), HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace tdp::server
