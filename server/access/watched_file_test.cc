#include "server/access/watched_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using Change = WatchedFile::Change;

class WatchedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-watched-file-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/file";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& text) { std::ofstream(path_) << text; }
  std::string Problem() {
    return std::string(file().Read().status().message());
  }
  WatchedFile file() const { return WatchedFile(path_, 8); }

  std::string folder_;
  std::string path_;
};

TEST_F(WatchedFileTest, ReadsUpToItsLimit) {
  Write("12345678");
  const auto content = file().Read();
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->text, "12345678");
  EXPECT_EQ(content->info.st_uid, geteuid());
  Write("123456789");
  EXPECT_THAT(Problem(), HasSubstr("more than 8 bytes"));
}

TEST_F(WatchedFileTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(Problem(), HasSubstr("No such file"));
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(Problem(), HasSubstr("no regular file"));
  path_ = folder_;
  EXPECT_THAT(Problem(), HasSubstr("no regular file"));
}

TEST_F(WatchedFileTest, NoticesEveryKindOfChange) {
  Write("a");
  WatchedFile watched = file();
  EXPECT_EQ(watched.Check(), Change::kSure);
  EXPECT_NE(watched.Check(), Change::kSure);
  Write("ab");
  EXPECT_EQ(watched.Check(), Change::kSure) << "written in place";
  std::ofstream(path_ + ".new") << "cd";
  std::filesystem::rename(path_ + ".new", path_);
  EXPECT_EQ(watched.Check(), Change::kSure) << "another file";
  unlink(path_.c_str());
  EXPECT_EQ(watched.Check(), Change::kSure) << "gone";
  EXPECT_EQ(watched.Check(), Change::kNone) << "still gone";
  std::ofstream(folder_ + "/one") << "1";
  std::ofstream(folder_ + "/two") << "2";
  std::filesystem::create_symlink("one", path_);
  EXPECT_EQ(watched.Check(), Change::kSure) << "back";
  unlink(path_.c_str());
  std::filesystem::create_symlink("two", path_);
  EXPECT_EQ(watched.Check(), Change::kSure) << "another target";
}

TEST_F(WatchedFileTest, MistrustsTheTimesOfAYoungFile) {
  Write("a");
  WatchedFile watched = file();
  watched.Check();
  // It was written a moment ago, unless this test was held up for seconds.
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  const Change change = watched.Check();
  const absl::Duration age = absl::Now() - absl::TimeFromTimespec(info.st_ctim);
  if (age < absl::Seconds(2)) {
    EXPECT_EQ(change, Change::kMaybe);
  }
}

}  // namespace
}  // namespace tdp::server
