#include "server/web/query.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "server/testing/errors.h"

namespace tdp::server {
namespace {

TEST(QueryTest, ReadsTextsAndNumbers) {
  const auto query =
      Query::Parse("vm=vms%2Fa&n=18446744073709551615&e=&s=a+b%2B=c",
                   {"vm", "n", "e", "s", "none"});
  ASSERT_TRUE(query.ok()) << query.status();
  EXPECT_EQ(query->Text("vm"), "vms/a");
  EXPECT_EQ(query->Text("s"), "a b+=c");
  EXPECT_EQ(query->Text("e"), "");
  EXPECT_EQ(query->Text("none"), "");
  EXPECT_EQ(*query->Number("n", 0, std::numeric_limits<uint64_t>::max()),
            std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(*query->Number("none", 1, 2, 7), 7u);
  EXPECT_TRUE(Query::Parse("", {}).ok());
}

TEST(QueryTest, RefusesWhatIsNotPlainlyAListOfKnownParameters) {
  const struct {
    const char* text;
    const char* error;
  } kCases[] = {
      {"b=1", "FIELD_INVALID query"},   {"a=1&", "FIELD_INVALID query"},
      {"&a=1", "FIELD_INVALID query"},  {"=1", "FIELD_INVALID query"},
      {"%61=1", "FIELD_INVALID query"},  // names have one spelling
      {"a=1&a=1", "FIELD_INVALID a"},   {"a=%", "FIELD_INVALID a"},
      {"a=%4", "FIELD_INVALID a"},      {"a=%4g", "FIELD_INVALID a"},
      {"a=%g4", "FIELD_INVALID a"},     {"a=%ff", "FIELD_INVALID a"},
      {"a=%c3%28", "FIELD_INVALID a"},
  };
  for (const auto& [text, error] : kCases) {
    EXPECT_EQ(FieldErrorOf(Query::Parse(text, {"a"}).status()), error) << text;
  }
}

TEST(QueryTest, TakesNumbersFromTheLeastToTheMostAndNoOthers) {
  const auto number = [](const std::string& value) {
    return Query::Parse("n=" + value, {"n"})->Number("n", 5, 10);
  };
  EXPECT_EQ(*number("5"), 5u);
  EXPECT_EQ(*number("10"), 10u);
  for (const char* value : {"4", "11", "", "-5", "%2B5", "+5", "0x5", "5.0",
                            "99999999999999999999", "5%20"}) {
    EXPECT_EQ(FieldErrorOf(number(value).status()), "FIELD_INVALID n") << value;
  }
}

}  // namespace
}  // namespace tdp::server
