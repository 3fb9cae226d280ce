#include "server/convert/text.h"

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

TEST(TextTest, ShowsTextInQuotesAndAnEmptyOneAsEmpty) {
  EXPECT_EQ(Shown("vms/a"), "\"vms/a\"");
  EXPECT_EQ(Shown(""), "");
}

TEST(TextTest, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(Shown("\x1b[2J\x1f\n\""), "\"\\033[2J\\037\\n\\\"\"");
}

TEST(TextTest, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(Clipped("12345678", 8), "12345678");
  EXPECT_EQ(Clipped("123456789", 8), "12345...");
  // "\u00e9" takes two bytes: bytes 4 and 5 here.
  EXPECT_EQ(Clipped("1234\u00e96789", 8), "1234...");
  EXPECT_EQ(Clipped("123\u00e96789", 8), "123\u00e9...");
  EXPECT_EQ(Shown(std::string(100, 'x')),
            "\"" + std::string(61, 'x') + "...\"");
}

}  // namespace
}  // namespace tdp::server
