#include "client/lib/retry.h"

#include <fstream>
#include <map>
#include <regex>
#include <string>

#include "client/lib/call_error.h"
#include "client/testing/fake_clock.h"
#include "client/testing/fake_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tdp/v1/error.pb.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;

struct Row {
  absl::StatusCode code;
  std::string again;
};

// The table of errors in proto/README.md: reason to code and last column.
std::map<std::string, Row> ReadErrorTable() {
  std::map<std::string, absl::StatusCode> codes;
  for (int code = 1; code <= 16; ++code) {
    const auto value = static_cast<absl::StatusCode>(code);
    codes[absl::StatusCodeToString(value)] = value;
  }
  std::map<std::string, Row> rows;
  const std::regex row(R"(\| `(\w+)` \| (\w+) \|.*\| ([a-zA-Z, ]+) \|)");
  std::ifstream file("proto/README.md");
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    rows[match[1]] = {codes.at(match[2]), match[3]};
  }
  return rows;
}

absl::Status Error(absl::StatusCode code, const std::string& reason) {
  return DaemonError(code, "because", reason, {});
}

absl::Status Conflict(absl::Duration delay) {
  return WithRetryInfo(Error(absl::StatusCode::kAborted, "OPERATION_CONFLICT"),
                       delay);
}

TEST(RetryTest, EachRowOfTheTableOfErrorsIsFollowed) {
  const std::map<std::string, Row> rows = ReadErrorTable();
  const auto* reasons = v1::ErrorReason_descriptor();
  ASSERT_EQ(static_cast<int>(rows.size()), reasons->value_count() - 1);
  for (const auto& [reason, row] : rows) {
    const absl::Status plain = Error(row.code, reason);
    const absl::Status delayed = WithRetryInfo(plain, absl::Seconds(1));
    if (row.again == "no") {
      EXPECT_EQ(AdviceOf(plain), Advice::kGiveUp) << reason;
    } else if (row.again == "streams") {
      EXPECT_EQ(AdviceOf(plain), Advice::kRetryIfIdempotent) << reason;
    } else if (row.again == "if idempotent") {
      EXPECT_EQ(AdviceOf(delayed), Advice::kRetryIfIdempotent) << reason;
    } else {
      ASSERT_EQ(row.again.substr(0, 3), "yes") << reason;
      EXPECT_EQ(AdviceOf(delayed), Advice::kRetry) << reason;
      EXPECT_EQ(AdviceOf(plain), Advice::kGiveUp) << reason;
    }
  }
}

TEST(RetryTest, AConnectionThatBrokeMayHaveCarriedTheCall) {
  EXPECT_EQ(AdviceOf(absl::UnavailableError("Socket closed")),
            Advice::kRetryIfIdempotent);
}

TEST(RetryTest, OtherErrorsOfNobodyAreFinal) {
  for (int code = 1; code <= 16; ++code) {
    const auto value = static_cast<absl::StatusCode>(code);
    if (value == absl::StatusCode::kUnavailable) continue;
    EXPECT_EQ(AdviceOf(absl::Status(value, "because")), Advice::kGiveUp)
        << value;
  }
}

TEST(RetryTest, AReasonOfANewerDaemonIsTreatedByItsCodeAndItsRetryInfo) {
  const absl::Status exhausted =
      Error(absl::StatusCode::kResourceExhausted, "MOON_TOO_FULL");
  EXPECT_EQ(AdviceOf(exhausted), Advice::kGiveUp);
  EXPECT_EQ(AdviceOf(WithRetryInfo(exhausted, absl::Seconds(1))),
            Advice::kRetryIfIdempotent);
  EXPECT_EQ(AdviceOf(Error(absl::StatusCode::kUnavailable, "MOON_TOO_FULL")),
            Advice::kRetryIfIdempotent);
}

class RetriesTest : public testing::Test {
 protected:
  Retries New(absl::Time deadline = absl::InfiniteFuture()) {
    return Retries(options_, clock_, deadline);
  }

  FakeClock time_;
  RetryClock clock_ = time_.Clock();
  RetryOptions options_;
};

TEST_F(RetriesTest, ThePausesDoubleUpToTheirLimit) {
  options_.max_tries = 8;
  options_.max_backoff = absl::Seconds(1);
  Retries retries = New();
  while (retries.WaitForNextTry(absl::UnavailableError("gone"),
                                Effect::kIdempotent)) {
  }
  EXPECT_THAT(time_.waits,
              ElementsAre(absl::Milliseconds(50), absl::Milliseconds(100),
                          absl::Milliseconds(200), absl::Milliseconds(400),
                          absl::Milliseconds(500), absl::Milliseconds(500),
                          absl::Milliseconds(500)));
}

TEST_F(RetriesTest, RandomnessStretchesAPauseToTwiceItsLeast) {
  clock_.random = [] { return 0.5; };
  Retries retries = New();
  EXPECT_TRUE(retries.WaitForNextTry(absl::UnavailableError("gone"),
                                     Effect::kIdempotent));
  EXPECT_THAT(time_.waits, ElementsAre(absl::Milliseconds(75)));
}

TEST_F(RetriesTest, TheDaemonsDelayComesOnTopOfThePause) {
  Retries retries = New();
  EXPECT_TRUE(
      retries.WaitForNextTry(Conflict(absl::Seconds(3)), Effect::kOnce));
  EXPECT_THAT(time_.waits, ElementsAre(absl::Milliseconds(3050)));
}

TEST_F(RetriesTest, WhatMayHaveTakenEffectIsRepeatedOnlyIfIdempotent) {
  const absl::Status gone = absl::UnavailableError("gone");
  EXPECT_FALSE(New().WaitForNextTry(gone, Effect::kOnce));
  EXPECT_TRUE(New().WaitForNextTry(gone, Effect::kIdempotent));
  EXPECT_TRUE(
      New().WaitForNextTry(Conflict(absl::ZeroDuration()), Effect::kOnce));
}

TEST_F(RetriesTest, NobodyIsWaitedForUnlessAskedTo) {
  const absl::Status nobody = NobodyListensError("start it");
  EXPECT_FALSE(New().WaitForNextTry(nobody, Effect::kIdempotent));
  options_.wait_for_daemon = true;
  EXPECT_TRUE(New().WaitForNextTry(nobody, Effect::kIdempotent));
  EXPECT_TRUE(New().WaitForNextTry(nobody, Effect::kOnce))
      << "it never reached a daemon";
}

TEST_F(RetriesTest, NobodyIsWaitedForUntilTheDeadline) {
  options_.wait_for_daemon = true;
  const absl::Time deadline = time_.time + absl::Minutes(1);
  Retries retries = New(deadline);
  while (
      retries.WaitForNextTry(NobodyListensError("start it"), Effect::kOnce)) {
  }
  EXPECT_LT(time_.time, deadline);
  EXPECT_GE(time_.time, deadline - absl::Milliseconds(500));
}

TEST_F(RetriesTest, TriesThatFoundNobodyDoNotCount) {
  options_.wait_for_daemon = true;
  Retries retries = New();
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(
        retries.WaitForNextTry(NobodyListensError("start it"), Effect::kOnce));
  }
  const absl::Status error = Conflict(absl::ZeroDuration());
  int refusals = 1;
  while (retries.WaitForNextTry(error, Effect::kOnce)) ++refusals;
  EXPECT_EQ(refusals, options_.max_tries);
}

TEST_F(RetriesTest, NoPauseEndsAtOrBehindTheDeadline) {
  Retries just_fits =
      New(time_.time + absl::Milliseconds(3050) + absl::Nanoseconds(1));
  EXPECT_TRUE(
      just_fits.WaitForNextTry(Conflict(absl::Seconds(3)), Effect::kOnce));
  Retries does_not = New(time_.time + absl::Milliseconds(3050));
  EXPECT_FALSE(
      does_not.WaitForNextTry(Conflict(absl::Seconds(3)), Effect::kOnce));
  EXPECT_EQ(time_.waits.size(), 1u);
}

TEST_F(RetriesTest, ProgressStartsTheCountAnew) {
  options_.max_tries = 2;
  Retries retries = New();
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(retries.WaitForNextTry(absl::UnavailableError("gone"),
                                       Effect::kIdempotent));
    EXPECT_FALSE(retries.WaitForNextTry(absl::UnavailableError("gone"),
                                        Effect::kIdempotent));
    retries.NoteProgress();
  }
}

TEST_F(RetriesTest, TheLastErrorSaysHowOftenItWasTried) {
  Retries retries = New();
  const absl::Status error = Conflict(absl::ZeroDuration());
  EXPECT_EQ(retries.Final(error), error);
  while (retries.WaitForNextTry(error, Effect::kOnce)) {
  }
  EXPECT_EQ(ErrorText(retries.Final(error)),
            "ABORTED: because (tried 5 times)");
  EXPECT_EQ(ErrorInfoOf(retries.Final(error))->reason(), "OPERATION_CONFLICT");
}

TEST(RetryClockTest, RealRandomnessIsAFraction) {
  for (int i = 0; i < 1000; ++i) {
    const double fraction = RetryClock::RandomFraction();
    EXPECT_GE(fraction, 0.0);
    EXPECT_LT(fraction, 1.0);
  }
}

}  // namespace
}  // namespace tdp::client
