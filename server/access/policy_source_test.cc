#include "server/access/policy_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

constexpr uid_t kSomebody = 4000000;

class PolicySourceTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-policy-source-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/policy";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // As configuration tools write a file: whole, and then in one step.
  void Replace(const std::string& text) {
    const std::string next = path_ + ".next";
    std::ofstream(next) << text;
    chmod(next.c_str(), 0644);
    std::filesystem::rename(next, path_);
  }
  absl::StatusOr<std::unique_ptr<PolicySource>> Open() {
    return PolicySource::Open(path_, geteuid(), SystemNames());
  }
  std::string Problem() { return std::string(Open().status().message()); }
  // Returns when the file is so old that its times show each change.
  void AwaitSettledFile() const {
    WatchedFile file(path_, limits::kMaxPolicyBytes);
    file.Check();
    while (file.Check() != WatchedFile::Change::kNone) {
      absl::SleepFor(absl::Milliseconds(20));
    }
  }
  static Role RoleOfSomebody(const PolicySource& source) {
    return source.policy()->RoleOfProcess(kSomebody, kSomebody, {});
  }

  std::string folder_;
  std::string path_;
};

TEST_F(PolicySourceTest, WithoutAFileTheDefaultHolds) {
  const auto source = PolicySource::Open("", geteuid(), SystemNames());
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(RoleOfSomebody(**source), Role::kNone);
  EXPECT_EQ((*source)->policy()->RoleOfProcess(geteuid(), 1, {}), Role::kAdmin);
  const uint64_t generation = (*source)->generation();
  (*source)->Refresh();
  EXPECT_EQ((*source)->generation(), generation);
}

TEST_F(PolicySourceTest, ANewFileHoldsFromTheNextRefreshOn) {
  Replace("observer uid:4000000\n");
  const auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(RoleOfSomebody(**source), Role::kObserver);
  const uint64_t generation = (*source)->generation();
  Replace("operator uid:4000000\n");
  (*source)->Refresh();
  EXPECT_EQ(RoleOfSomebody(**source), Role::kOperator);
  EXPECT_NE((*source)->generation(), generation);
  // Of the same size, in place.
  std::ofstream(path_) << "observer uid:4000000\n";
  (*source)->Refresh();
  EXPECT_EQ(RoleOfSomebody(**source), Role::kObserver);
  EXPECT_EQ((*source)->reload_count(), 2);
  EXPECT_EQ((*source)->reload_failure_count(), 0);
}

TEST_F(PolicySourceTest, ABrokenFileLeavesThePolicyAsItIs) {
  Replace("observer uid:4000000\n");
  const auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  const uint64_t generation = (*source)->generation();
  int failures = 0;
  const auto expect_kept = [&](const char* why) {
    (*source)->Refresh();
    (*source)->Refresh();
    EXPECT_EQ(RoleOfSomebody(**source), Role::kObserver) << why;
    EXPECT_EQ((*source)->generation(), generation) << why;
    EXPECT_EQ((*source)->reload_failure_count(), ++failures)
        << why << ": logged once";
  };
  Replace("admin uid:4000000\nadmin nonsense\n");
  expect_kept("wrong");
  unlink(path_.c_str());
  expect_kept("gone");
  Replace("admin uid:4000000\n");
  chmod(path_.c_str(), 0666);
  expect_kept("unsafe");
  Replace(std::string(limits::kMaxPolicyBytes + 1, '#'));
  expect_kept("too large");
  Replace("operator uid:4000000\n");
  (*source)->Refresh();
  EXPECT_EQ(RoleOfSomebody(**source), Role::kOperator);
}

TEST_F(PolicySourceTest, AReloadThatFailedIsTriedAgainWithoutANewFile) {
  bool can_look_up = true;
  int lookups = 0;
  const NameLookup names = {
      .user = [&](const std::string&) -> std::optional<uid_t> {
        ++lookups;
        if (!can_look_up) return std::nullopt;
        return kSomebody;
      },
      .group = [](const std::string&) { return std::optional<gid_t>(); },
  };
  Replace("observer user:somebody\n");
  const auto source = PolicySource::Open(path_, geteuid(), names);
  ASSERT_TRUE(source.ok()) << source.status();
  Replace("operator user:somebody\n");
  can_look_up = false;
  (*source)->Refresh();
  EXPECT_EQ(RoleOfSomebody(**source), Role::kObserver);
  AwaitSettledFile();
  lookups = 0;
  (*source)->Refresh();
  EXPECT_EQ(lookups, 1);
  EXPECT_EQ(RoleOfSomebody(**source), Role::kObserver);
  EXPECT_EQ((*source)->reload_failure_count(), 1) << "logged once";

  can_look_up = true;
  (*source)->Refresh();
  EXPECT_EQ(RoleOfSomebody(**source), Role::kOperator);
  EXPECT_EQ((*source)->reload_count(), 1);
  lookups = 0;
  (*source)->Refresh();
  EXPECT_EQ(lookups, 0) << "there is nothing to try again";
}

TEST_F(PolicySourceTest, RefusesAFileThatOthersMayWrite) {
  Replace("");
  for (const mode_t mode : {0664, 0646, 0666}) {
    chmod(path_.c_str(), mode);
    EXPECT_THAT(Problem(), HasSubstr("chmod go-w"));
  }
  for (const mode_t mode : {0600, 0644, 0640, 0444}) {
    chmod(path_.c_str(), mode);
    EXPECT_TRUE(Open().ok());
  }
}

TEST_F(PolicySourceTest, RefusesAFileOfSomebodyElse) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  Replace("");
  ASSERT_EQ(chown(path_.c_str(), kSomebody, 0), 0);
  EXPECT_THAT(Problem(), HasSubstr("belongs to uid 4000000"));
  EXPECT_TRUE(PolicySource::Open(path_, kSomebody, SystemNames()).ok());
}

TEST_F(PolicySourceTest, NamesTheFileThatItCannotRead) {
  EXPECT_THAT(Problem(), HasSubstr(path_ + ": No such file"));
  Replace("x");
  EXPECT_THAT(Problem(), HasSubstr(path_ + ", line 1, column 1"));
}

// One thread replaces the policy, another asks as the gate does: what it has
// found under a generation is never older than that generation.
TEST_F(PolicySourceTest, WhoSeesTheGenerationSeesThePolicy) {
  Replace("observer uid:4000000\n");
  const auto source = Open();
  ASSERT_TRUE(source.ok()) << source.status();
  const uint64_t first = (*source)->generation();
  std::atomic<bool> stop = false;
  std::atomic<int> mistakes = 0;
  std::thread reader([&] {
    while (!stop) {
      const uint64_t generation = (*source)->generation();
      const Role role = RoleOfSomebody(**source);
      // It is observer first, and operator for good from the second on.
      if (generation > first && role != Role::kOperator) ++mistakes;
    }
  });
  for (int i = 0; i < 50; ++i) {
    Replace("operator uid:4000000\n");
    (*source)->Refresh();
  }
  stop = true;
  reader.join();
  EXPECT_EQ(mistakes, 0);
  EXPECT_EQ((*source)->generation(), first + 50);
}

}  // namespace
}  // namespace tdp::server
