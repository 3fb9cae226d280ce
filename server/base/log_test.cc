#include "server/base/log.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr absl::string_view kNasty =
    "a\nlevel=error \x1b[0m\"\\ \x9b \xe2\x80\xa8 =\r\t\x7f";

TEST(LogTest, ShowsTimeSeverityMessageAndFields) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, absl::FromUnixMillis(1500),
                          Severity::kWarning, "KVM is missing",
                          {{"hint", "load it"}, {"code", "NOT_FOUND"}}),
            "time=1970-01-01T00:00:01.500Z level=warning msg=\"KVM is "
            "missing\" hint=\"load it\" code=NOT_FOUND\n");
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, absl::UnixEpoch(), Severity::kDebug,
                          "hi", {{"n", "1"}}),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"debug\","
            "\"msg\":\"hi\",\"n\":\"1\"}\n");
}

TEST(LogTest, KeepsALineALineWhateverItHolds) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string line = FormatLogLine(
        format, absl::UnixEpoch(), Severity::kError, kNasty, {{"x", kNasty}});
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    EXPECT_EQ(line.back(), '\n');
    for (const char c : line.substr(0, line.size() - 1)) {
      EXPECT_TRUE(c >= ' ' && c <= '~') << line;
    }
  }
}

TEST(LogTest, LetsNoValueForgeAField) {
  const std::string line =
      FormatLogLine(LogFormat::kText, absl::UnixEpoch(), Severity::kInfo, "m",
                    {{"a", "x\" peer=\"root"}, {"b", "x peer=root"}});
  EXPECT_THAT(line, HasSubstr("a=\"x\\\" peer=\\\"root\" b=\"x peer=root\"\n"));
  const std::string json =
      FormatLogLine(LogFormat::kJson, absl::UnixEpoch(), Severity::kInfo, "m",
                    {{"a", "x\",\"peer\":\"root"}});
  EXPECT_THAT(json, HasSubstr("\"a\":\"x\\\",\\\"peer\\\":\\\"root\"}\n"));
}

TEST(LogTest, TakesTheNamesOfItsFlagsAndNoOthers) {
  Severity severity = Severity::kInfo;
  EXPECT_TRUE(ParseSeverity("debug", &severity));
  EXPECT_EQ(severity, Severity::kDebug);
  EXPECT_FALSE(ParseSeverity("Debug", &severity));
  EXPECT_FALSE(ParseSeverity("", &severity));
  LogFormat format = LogFormat::kText;
  EXPECT_TRUE(ParseLogFormat("json", &format));
  EXPECT_EQ(format, LogFormat::kJson);
  EXPECT_FALSE(ParseLogFormat("yaml", &format));
}

// In a process of its own, because the log's thread lives as long as one does:
// stderr is a pipe, and nobody reads it before the log has been filled.
void FillALogThatNobodyReads() {
  StartLogThread();
  SetLogLevel(Severity::kWarning);
  const std::string padding(200, 'x');
  int64_t logged = 0;
  // The pipe and the queue are full when lines are dropped.
  while (DroppedLogLineCount() == 0) {
    Log(Severity::kWarning, "line", {{"padding", padding}});
    Log(Severity::kInfo, "below the level");
    ++logged;
  }
  FlushLog(absl::Milliseconds(1));
  dprintf(STDOUT_FILENO, "logged=%d dropped=%d\n",
          static_cast<int>(logged > kMaxQueuedLogLines),
          static_cast<int>(DroppedLogLineCount() > 0));
  _exit(0);
}

TEST(LogTest, DropsTheOldestLinesRatherThanMakeACallerWait) {
  int errors[2];
  int output[2];
  ASSERT_EQ(pipe2(errors, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(output, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(errors[1], STDERR_FILENO);
    dup2(output[1], STDOUT_FILENO);
    FillALogThatNobodyReads();
  }
  close(output[1]);
  close(errors[1]);
  char text[64] = {};
  EXPECT_GT(read(output[0], text, sizeof(text) - 1), 0);
  EXPECT_STREQ(text, "logged=1 dropped=1\n");
  close(output[0]);
  close(errors[0]);
  EXPECT_GT(waitpid(child, nullptr, 0), 0);
}

TEST(LogTest, HasWrittenWhatWasLoggedWhenItIsFlushed) {
  int errors[2];
  ASSERT_EQ(pipe2(errors, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(errors[1], STDERR_FILENO);
    StartLogThread();
    for (int i = 0; i < 20; ++i) Log(Severity::kInfo, absl::StrCat("line", i));
    Log(Severity::kDebug, "below the level");
    FlushLog(absl::InfiniteDuration());
    _exit(0);
  }
  close(errors[1]);
  EXPECT_GT(waitpid(child, nullptr, 0), 0);
  std::string text(65536, '\0');
  text.resize(static_cast<size_t>(
      std::max<ssize_t>(read(errors[0], text.data(), text.size()), 0)));
  close(errors[0]);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 20);
  EXPECT_THAT(text, HasSubstr("msg=line19\n"));
  EXPECT_THAT(text, Not(HasSubstr("below")));
}

}  // namespace
}  // namespace tdp::server
