#include "server/base/log.h"

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

TEST(LogTest, ShowsTimeSeverityMessageAndFields) {
  EXPECT_EQ(FormatLogLine(absl::FromUnixMillis(1500), Severity::kWarning,
                          "KVM is missing", {{"hint", "load it"}}),
            "1970-01-01T00:00:01.500Z warning \"KVM is missing\" "
            "hint=\"load it\"\n");
}

TEST(LogTest, KeepsALineALineWhateverItHolds) {
  EXPECT_EQ(FormatLogLine(absl::UnixEpoch(), Severity::kError, "a\nb\"",
                          {{"text", "\x1b[0m"}}),
            "1970-01-01T00:00:00.000Z error \"a\\nb\\\"\" "
            "text=\"\\033[0m\"\n");
}

}  // namespace
}  // namespace tdp::server
