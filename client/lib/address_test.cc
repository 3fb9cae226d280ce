#include "client/lib/address.h"

#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(AddressTest, NumbersTakeHexadecimalAndSuffixes) {
  EXPECT_EQ(ParseNumber("0").value(), 0u);
  EXPECT_EQ(ParseNumber("4096").value(), 4096u);
  EXPECT_EQ(ParseNumber("0x1000").value(), 4096u);
  EXPECT_EQ(ParseNumber("0XfF").value(), 255u);
  EXPECT_EQ(ParseNumber("4K").value(), 4096u);
  EXPECT_EQ(ParseNumber("4k").value(), 4096u);
  EXPECT_EQ(ParseNumber("256M").value(), uint64_t{256} << 20);
  EXPECT_EQ(ParseNumber("1G").value(), uint64_t{1} << 30);
  EXPECT_EQ(ParseNumber("2T").value(), uint64_t{2} << 40);
  EXPECT_EQ(ParseNumber("0x10K").value(), uint64_t{16} << 10);
}

TEST(AddressTest, TheLargestNumbersFitAndTheNextDoNot) {
  EXPECT_EQ(ParseNumber("18446744073709551615").value(), kMax);
  EXPECT_EQ(ParseNumber("0xffffffffffffffff").value(), kMax);
  EXPECT_EQ(ParseNumber("16777215T").value(), uint64_t{16777215} << 40);
  for (const char* text : {"18446744073709551616", "0x10000000000000000",
                           "16777216T", "99999999999999999999999G"}) {
    EXPECT_THAT(
        std::string(ParseNumber(text).status().message()),
        HasSubstr(absl::StrCat("\"", text, "\" does not fit into 64 bits")));
  }
}

TEST(AddressTest, WhatIsNoNumberIsRefusedWithTheText) {
  for (const char* text : {"", "K", "0x", "0xK", "-1", "+1", "1.5G", "12Q",
                           "1KK", " 1", "1 ", "0x12g4", "4Ki", "abc"}) {
    const auto result = ParseNumber(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_THAT(std::string(result.status().message()),
                HasSubstr(absl::StrCat("\"", text, "\" is no number")));
  }
}

TEST(AddressTest, SizesFitTheSignedFieldsOfTheApi) {
  EXPECT_EQ(ParseSize("0x7fffffffffffffff").value(),
            std::numeric_limits<int64_t>::max());
  EXPECT_THAT(std::string(ParseSize("0x8000000000000000").status().message()),
              HasSubstr("too large"));
}

TEST(AddressTest, FrameCountsAreWholeAndPositive) {
  EXPECT_EQ(ParseFrameCount("64M").value(), 16384);
  EXPECT_EQ(ParseFrameCount("4K").value(), 1);
  EXPECT_THAT(std::string(ParseFrameCount("0").status().message()),
              HasSubstr("is empty"));
  EXPECT_THAT(std::string(ParseFrameCount("4097").status().message()),
              HasSubstr("not 4K aligned"));
}

TEST(AddressTest, AFrameIsNamedByAnyAddressInItOrByNumber) {
  EXPECT_EQ(ParseFrame("0x100000").value(), 0x100u);
  EXPECT_EQ(ParseFrame("0x100fff").value(), 0x100u);
  EXPECT_EQ(ParseFrame("gfn:0x100").value(), 0x100u);
  EXPECT_EQ(ParseFrame("gfn:0xffffffffffffffff").value(), kMax);
  EXPECT_FALSE(ParseFrame("gfn:").ok());
}

TEST(AddressTest, AnAlignedFrameRefusesAnAddressInsideAFrame) {
  EXPECT_EQ(ParseAlignedFrame("1M").value(), 0x100u);
  EXPECT_EQ(ParseAlignedFrame("gfn:3").value(), 3u);
  EXPECT_THAT(std::string(ParseAlignedFrame("0x100001").status().message()),
              HasSubstr("\"0x100001\" is not 4K aligned"));
}

TEST(AddressTest, RangesAreStartAndEndOrStartAndSize) {
  EXPECT_EQ(ParseFrameRange("0..64M").value(), (FrameRange{0, 16384}));
  EXPECT_EQ(ParseFrameRange("1M+4K").value(), (FrameRange{0x100, 0x101}));
  EXPECT_EQ(ParseFrameRange("0x1000..0x2000").value(), (FrameRange{1, 2}));
  EXPECT_EQ(ParseFrameRange("gfn:0x100..0x200").value(),
            (FrameRange{0x100, 0x200}));
  EXPECT_EQ(ParseFrameRange("gfn:7+3").value(), (FrameRange{7, 10}));
}

TEST(AddressTest, RangesReachTheEndOfTheAddressSpace) {
  EXPECT_EQ(ParseFrameRange("0xfffffffffffff000+4K").value(),
            (FrameRange{(uint64_t{1} << 52) - 1, uint64_t{1} << 52}));
  EXPECT_EQ(ParseFrameRange("gfn:0..0xffffffffffffffff").value(),
            (FrameRange{0, kMax}));
  EXPECT_EQ(ParseFrameRange("gfn:0xfffffffffffffffe+1").value(),
            (FrameRange{kMax - 1, kMax}));
}

TEST(AddressTest, EachBadRangeHasItsOwnSentence) {
  const struct {
    const char* text;
    const char* sentence;
  } cases[] = {
      {"64M", "is no range"},
      {"", "is no range"},
      {"..", "bad start"},
      {"0..", "bad end"},
      {"..4K", "bad start"},
      {"0..4K..8K", "bad end"},
      {"0-4K", "is no range"},
      {"gfn:gfn:0..1", "bad start"},
      {"1..4K", "start that is not 4K aligned"},
      {"0..4097", "end that is not 4K aligned"},
      {"0+1", "end that is not 4K aligned"},
      {"4K..4K", "is empty"},
      {"4K+0", "is empty"},
      {"gfn:5..5", "is empty"},
      {"8K..4K", "ends before it starts"},
      {"gfn:6..5", "ends before it starts"},
      {"0xfffffffffffff000+8K", "ends past 2^64"},
      {"gfn:0xffffffffffffffff+1", "ends past 2^64"},
      {"0..0x10000000000000000", "does not fit into 64 bits"},
  };
  for (const auto& c : cases) {
    const auto result = ParseFrameRange(c.text);
    ASSERT_FALSE(result.ok()) << c.text;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(c.sentence));
    EXPECT_THAT(std::string(result.status().message()),
                HasSubstr(absl::StrCat("\"", c.text, "\"")));
  }
}

TEST(AddressTest, AWalkTellsRangesFromSingleAddresses) {
  EXPECT_TRUE(LooksLikeRange("0..4K"));
  EXPECT_TRUE(LooksLikeRange("4K+"));
  EXPECT_FALSE(LooksLikeRange("0x100000"));
  EXPECT_FALSE(LooksLikeRange("gfn:1"));
}

TEST(AddressTest, SizesAreShownInTheLargestUnitThatDivides) {
  EXPECT_EQ(FormatSize(0), "0");
  EXPECT_EQ(FormatSize(1), "1");
  EXPECT_EQ(FormatSize(1023), "1023");
  EXPECT_EQ(FormatSize(1024), "1K");
  EXPECT_EQ(FormatSize(64 << 20), "64M");
  EXPECT_EQ(FormatSize((uint64_t{1} << 30) + 4096), "1048580K");
  EXPECT_EQ(FormatSize(uint64_t{3} << 40), "3T");
}

TEST(AddressTest, FramesBeyondTheAddressSpaceAreShownByNumber) {
  EXPECT_EQ(FormatFrameAddress(0x100), "0x100000");
  EXPECT_EQ(FormatFrameAddress((uint64_t{1} << 52) - 1), "0xfffffffffffff000");
  EXPECT_EQ(FormatFrameAddress(uint64_t{1} << 52), "gfn:0x10000000000000");
  EXPECT_EQ(FormatFrameRange({0, 0x100}), "0x0..0x100000");
}

TEST(AddressTest, WhatIsFormattedParsesBack) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t value = random() >> (random() % 64);
    EXPECT_EQ(ParseNumber(FormatSize(value)).value(), value);
    EXPECT_EQ(ParseNumber(FormatHex(value)).value(), value);
    EXPECT_EQ(ParseNumber(absl::StrCat(value)).value(), value);
    const uint64_t start = value >> kFrameShift;
    const uint64_t size = 1 + (random() >> (13 + random() % 50));
    const FrameRange range{start, start + size};
    if (range.end_gfn < (uint64_t{1} << 52)) {
      EXPECT_EQ(ParseFrameRange(FormatFrameRange(range)).value(), range);
    }
    EXPECT_EQ(
        ParseFrameRange(absl::StrFormat("gfn:0x%x+%d", start, size)).value(),
        range);
  }
}

TEST(AddressTest, NoTextMakesAParserMisbehave) {
  std::mt19937_64 random(11);
  const std::string alphabet = "0123456789xXaFkKMGT.+gfn: -";
  for (int i = 0; i < 50000; ++i) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) {
      text += alphabet[random() % alphabet.size()];
    }
    const auto range = ParseFrameRange(text);
    if (range.ok()) {
      EXPECT_LT(range->start_gfn, range->end_gfn) << text;
    } else {
      EXPECT_FALSE(range.status().message().empty());
    }
  }
}

}  // namespace
}  // namespace tdp::client
