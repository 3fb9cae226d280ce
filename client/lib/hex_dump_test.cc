#include "client/lib/hex_dump.h"

#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

std::string Dump(uint64_t address, const std::string& bytes, size_t step) {
  std::ostringstream out;
  HexDump dump(address, out);
  for (size_t i = 0; i < bytes.size(); i += step) {
    dump.Append(absl::string_view(bytes).substr(i, step));
  }
  dump.Finish();
  return out.str();
}

TEST(HexDumpTest, LinesShowAddressBytesAndText) {
  EXPECT_EQ(Dump(0x1000, "Hello, guest\x01\xff!?~", 100),
            "00001000  48 65 6c 6c 6f 2c 20 67  75 65 73 74 01 ff 21 3f"
            "  |Hello, guest..!?|\n"
            "00001010  7e                                              "
            "  |~|\n"
            "00001011\n");
}

TEST(HexDumpTest, RepeatedLinesAreFolded) {
  EXPECT_EQ(Dump(0, std::string(64, '\0') + "a", 100),
            "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00"
            "  |................|\n"
            "*\n"
            "00000040  61                                              "
            "  |a|\n"
            "00000041\n");
}

TEST(HexDumpTest, ChunkBoundariesDoNotShow) {
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += static_cast<char>(i * 7);
  const std::string whole = Dump(0x1234, bytes, bytes.size());
  for (const size_t step : {1, 5, 16, 17, 999}) {
    EXPECT_EQ(Dump(0x1234, bytes, step), whole);
  }
}

TEST(HexDumpTest, NothingIsTheEndAddress) {
  EXPECT_EQ(Dump(0x1000, "", 1), "00001000\n");
}

TEST(HexBytesTest, DigitsBecomeBytes) {
  EXPECT_EQ(ParseHexBytes("90f4").value(), "\x90\xf4");
  EXPECT_EQ(ParseHexBytes("0x90F4").value(), "\x90\xf4");
  EXPECT_EQ(ParseHexBytes("90 f4:00").value(), std::string("\x90\xf4\0", 3));
}

TEST(HexBytesTest, HalfBytesAndOtherTextAreRefused) {
  for (const char* text : {"", "0x", "9", "90f", "9 0", "9g", "zz"}) {
    const auto result = ParseHexBytes(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("hex"));
  }
}

}  // namespace
}  // namespace tdp::client
