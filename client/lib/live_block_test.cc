#include "client/lib/live_block.h"

#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(LiveBlockTest, WithoutATerminalBlocksFollowEachOtherWithoutControlCodes) {
  std::ostringstream out;
  LiveBlock block(Terminal(), out);
  block.Show("a\nb\n");
  block.Show("c\n");
  EXPECT_EQ(out.str(), "a\nb\n\nc\n");
}

TEST(LiveBlockTest, OnATerminalABlockTakesThePlaceOfTheOneBefore) {
  std::ostringstream out;
  LiveBlock block({.size = [] { return TerminalSize(); }}, out);
  block.Show("a\nb\n");
  EXPECT_EQ(out.str(), "\x1b[?7l\ra\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
  out.str("");
  block.Show("c\n");
  EXPECT_EQ(out.str(), "\x1b[?7l\r\x1b[2Ac\x1b[K\n\x1b[J\x1b[?7h");
  out.str("");
  block.Show("d\ne\nf\n");
  EXPECT_EQ(out.str(),
            "\x1b[?7l\r\x1b[1A"
            "d\x1b[K\ne\x1b[K\nf\x1b[K\n\x1b[J\x1b[?7h");
}

TEST(LiveBlockTest, LinesThatWouldScrollAwayAreLeftOut) {
  std::ostringstream out;
  int rows = 3;
  LiveBlock block({.size = [&] { return TerminalSize{80, rows}; }}, out);
  block.Show("a\nb\nc\n");
  EXPECT_EQ(out.str(), "\x1b[?7l\ra\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
  out.str("");
  rows = 2;  // the window shrinks: only one line can be reached
  block.Show("d\ne\n");
  EXPECT_EQ(out.str(), "\x1b[?7l\r\x1b[1Ad\x1b[K\n\x1b[J\x1b[?7h");
  out.str("");
  rows = 0;
  block.Show("f\n");
  EXPECT_EQ(out.str(), "\x1b[?7l\r\x1b[1Af\x1b[K\n\x1b[J\x1b[?7h");
}

}  // namespace
}  // namespace tdp::client
