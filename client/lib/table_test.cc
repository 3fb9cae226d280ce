#include "client/lib/table.h"

#include <sstream>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(TableTest, ColumnsLineUpAndLinesEndWithoutSpaces) {
  Table table({{"NAME"}, {"COUNT", Align::kRight}, {"NOTE"}});
  table.AddRow({"a", "1", "x"});
  table.AddRow({"longer", "123456", ""});
  std::ostringstream out;
  table.Flush(out);
  EXPECT_EQ(out.str(),
            "NAME     COUNT  NOTE\n"
            "a            1  x\n"
            "longer  123456  -\n");
}

TEST(TableTest, AnEmptyTableIsItsHeader) {
  Table table({{"A"}, {"B"}});
  std::ostringstream out;
  table.Flush(out);
  EXPECT_EQ(out.str(), "A  B\n");
}

TEST(TableTest, ItsWidthIsThatOfItsLongestLine) {
  Table table({{"A"}, {"LONG"}, {"C"}});
  EXPECT_EQ(table.Width(), 10u);
  table.AddRow({"1", "2", "333"});
  table.AddRow({"4444", "5", "6"});
  EXPECT_EQ(table.Width(), 15u);
}

TEST(TableTest, LaterFlushesKeepTheWidthAndOmitTheHeader) {
  Table table({{"A", Align::kLeft, 4}, {"B"}});
  table.AddRow({"1", "2"});
  std::ostringstream first;
  table.Flush(first);
  EXPECT_EQ(first.str(), "A     B\n1     2\n");
  EXPECT_EQ(table.pending_row_count(), 0u);
  table.AddRow({"x", "y"});
  std::ostringstream second;
  table.Flush(second);
  EXPECT_EQ(second.str(), "x     y\n");
}

}  // namespace
}  // namespace tdp::client
