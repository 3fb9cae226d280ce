#include "client/lib/duration.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(DurationTest, ANumberIsSecondsAndUnitsAreUnderstood) {
  EXPECT_EQ(*ParsePositiveDuration("10"), absl::Seconds(10));
  EXPECT_EQ(*ParsePositiveDuration("0.5"), absl::Milliseconds(500));
  EXPECT_EQ(*ParsePositiveDuration("500ms"), absl::Milliseconds(500));
  EXPECT_EQ(*ParsePositiveDuration("1m30s"), absl::Seconds(90));
}

TEST(DurationTest, WhatIsNoPositiveTimeIsRefused) {
  for (const char* text : {"", "soon", "10 years", "nan"}) {
    EXPECT_NE(ParsePositiveDuration(text).status().message().find("is no time"),
              absl::string_view::npos)
        << text;
  }
  for (const char* text : {"0", "-1", "0ms", "-1s"}) {
    EXPECT_NE(
        ParsePositiveDuration(text).status().message().find("is not positive"),
        absl::string_view::npos)
        << text;
  }
}

}  // namespace
}  // namespace tdp::client
