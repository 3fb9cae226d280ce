#include "server/convert/paging.h"

#include <limits>
#include <string>

#include "absl/strings/escaping.h"
#include "engine/base/errors.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

TEST(PagingTest, CoercesPageSizes) {
  EXPECT_EQ(*ParsePageSize(0), 50u);
  EXPECT_EQ(*ParsePageSize(1), 1u);
  EXPECT_EQ(*ParsePageSize(1000), 1000u);
  EXPECT_EQ(*ParsePageSize(1001), 1000u);
  EXPECT_EQ(*ParsePageSize(std::numeric_limits<int32_t>::max()), 1000u);
}

TEST(PagingTest, RefusesANegativePageSize) {
  EXPECT_EQ(DetailOf(ParsePageSize(-1).status())->reason,
            ErrorReason::kFieldInvalid);
}

TEST(PagingTest, RoundTripsTokens) {
  EXPECT_EQ(**ParsePageToken("vms", MakePageToken("vms", "a:b")), "a:b");
  EXPECT_EQ(**ParseNumericPageToken("x", MakePageToken("x", "12")), 12u);
  EXPECT_FALSE(ParsePageToken("vms", "")->has_value());
  EXPECT_FALSE(ParseNumericPageToken("vms", "")->has_value());
}

TEST(PagingTest, RefusesTokensThatItDidNotMakeForTheList) {
  for (const std::string& token :
       {std::string("x"), std::string("%%%"), std::string("AAAA"),
        MakePageToken("vms/a/vcpus", "1"), MakePageToken("vms", ""),
        absl::WebSafeBase64Escape("tdp1:vms"),
        absl::WebSafeBase64Escape("tdp2:vms:a"), std::string(100000, 'A')}) {
    const auto parsed = ParsePageToken("vms", token);
    ASSERT_FALSE(parsed.ok()) << token;
    EXPECT_EQ(DetailOf(parsed.status())->reason, ErrorReason::kFieldInvalid);
  }
  EXPECT_FALSE(ParseNumericPageToken("vms", MakePageToken("vms", "1x")).ok());
}

TEST(PagingTest, EndsAPageByItemsOrBytesButNeverEmpty) {
  PageBudget by_items(2);
  EXPECT_TRUE(by_items.Take(1));
  EXPECT_TRUE(by_items.Take(1));
  EXPECT_FALSE(by_items.Take(1));
  PageBudget by_bytes(100);
  EXPECT_TRUE(by_bytes.Take(2 * kMaxPageBytes));
  EXPECT_FALSE(by_bytes.Take(1));
}

}  // namespace
}  // namespace tdp::server
