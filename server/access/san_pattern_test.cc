#include "server/access/san_pattern.h"

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

bool Matches(const std::string& pattern, const std::string& identity) {
  EXPECT_FALSE(SanPattern::Check(pattern).has_value()) << pattern;
  return SanPattern(pattern).Matches(identity);
}

TEST(SanPatternTest, TextWithoutAStarMeansItself) {
  EXPECT_TRUE(Matches("spiffe://td/a/b", "spiffe://td/a/b"));
  EXPECT_FALSE(Matches("spiffe://td/a/b", "spiffe://td/a/b/c"));
  EXPECT_FALSE(Matches("spiffe://td/a/b", "spiffe://td/a"));
  EXPECT_FALSE(Matches("spiffe://td/a/b", "spiffe://td/a/B"));
  EXPECT_FALSE(Matches("spiffe://td/a/b", "spiffe://td.x/a/b"));
  EXPECT_FALSE(Matches("spiffe://td/a.b", "spiffe://td/axb"));
  EXPECT_TRUE(Matches("dns:Node.Example", "dns:node.example"));
  EXPECT_FALSE(Matches("dns:node.example", "dns:x.node.example"));
  EXPECT_TRUE(SanPattern("spiffe://td/a").is_literal());
  EXPECT_FALSE(SanPattern("spiffe://td/a/**").is_literal());
  EXPECT_FALSE(SanPattern("dns:a*").is_literal());
}

TEST(SanPatternTest, AStarStaysWithinItsSegment) {
  EXPECT_TRUE(Matches("spiffe://td/ns/*/agent", "spiffe://td/ns/a/agent"));
  EXPECT_FALSE(Matches("spiffe://td/ns/*/agent", "spiffe://td/ns/a/b/agent"));
  EXPECT_FALSE(Matches("spiffe://td/ns/*", "spiffe://td/ns/a/b"));
  EXPECT_FALSE(Matches("spiffe://td/ns/*", "spiffe://td/ns"));
  EXPECT_TRUE(Matches("spiffe://td/vm-*-a", "spiffe://td/vm-7-a"));
  EXPECT_TRUE(Matches("spiffe://td/vm-*-a", "spiffe://td/vm--a"));
  EXPECT_FALSE(Matches("spiffe://td/vm-*-a", "spiffe://td/vm-a"))
      << "its two ends must not overlap";
  EXPECT_FALSE(Matches("spiffe://td/vm-*-a", "spiffe://td/vm-7-ab"));
}

TEST(SanPatternTest, AStarStaysWithinItsLabel) {
  EXPECT_TRUE(Matches("dns:node-*.example.com", "dns:node-7.example.com"));
  EXPECT_TRUE(Matches("dns:*.example.com", "dns:a.example.com"));
  EXPECT_FALSE(Matches("dns:*.example.com", "dns:a.b.example.com"));
  EXPECT_FALSE(Matches("dns:*.example.com", "dns:example.com"));
  EXPECT_FALSE(Matches("dns:*", "dns:a.b"));
  EXPECT_FALSE(Matches("dns:*.com", "spiffe://a/b"));
}

TEST(SanPatternTest, TwoStarsMeanAnyRestOfAPathButNotNone) {
  EXPECT_TRUE(Matches("spiffe://td/**", "spiffe://td/a"));
  EXPECT_TRUE(Matches("spiffe://td/**", "spiffe://td/a/b/c"));
  EXPECT_TRUE(Matches("spiffe://td/ns/**", "spiffe://td/ns/a"));
  EXPECT_FALSE(Matches("spiffe://td/ns/**", "spiffe://td/ns"));
  EXPECT_FALSE(Matches("spiffe://td/ns/**", "spiffe://td/nsx/a"));
  EXPECT_FALSE(Matches("spiffe://td/**", "spiffe://td.evil/a"));
}

TEST(SanPatternTest, MistakesAreFoundWhereTheyAre) {
  const struct {
    std::string text;
    size_t offset;
    const char* rule;
  } kCases[] = {
      {"spiffe://*/a", 9, "trust domain takes no *"},
      {"spiffe://td*/a", 11, "trust domain takes no *"},
      {"spiffe:///a", 9, "1 to 255"},
      {"spiffe://" + std::string(256, 'a') + "/a", 9, "1 to 255"},
      {"spiffe://td", 11, "has a path"},
      {"spiffe://TD/a", 9, "letters (small)"},
      {"spiffe://td/", 12, "neither empty"},
      {"spiffe://td/a//b", 14, "neither empty"},
      {"spiffe://td/a/", 14, "neither empty"},
      {"spiffe://td/../a", 12, "nor .."},
      {"spiffe://td/**/a", 13, "after its last /"},
      {"spiffe://td/a**", 14, "after its last /"},
      {"spiffe://td/a*b*c", 15, "one * at most"},
      {"spiffe://td/a%20", 13, "are all that may"},
      {"spiffe://td/" + std::string(2037, 'a'), 2048, "2048 bytes"},
      {"dns:", 4, "1 to 63"},
      {"dns:a..b", 6, "1 to 63"},
      {"dns:a.", 6, "1 to 63"},
      {"dns:" + std::string(64, 'a'), 4, "1 to 63"},
      {"dns:**", 5, "one * at most"},
      {"dns:a/b", 5, "are all that may"},
  };
  for (const auto& c : kCases) {
    const auto mistake = SanPattern::Check(c.text);
    ASSERT_TRUE(mistake.has_value()) << c.text;
    EXPECT_EQ(mistake->offset, c.offset) << c.text;
    EXPECT_THAT(mistake->rule, HasSubstr(c.rule)) << c.text;
  }
  EXPECT_FALSE(
      SanPattern::Check("spiffe://td/" + std::string(2036, 'a')).has_value());
  EXPECT_FALSE(SanPattern::Check("dns:" + std::string(63, 'a')).has_value());
}

TEST(SanPatternTest, AnIdentityIsAPlainName) {
  for (const char* text : {"spiffe://td/a", "spiffe://t-d.x/a/B_c.d", "dns:a",
                           "dns:node-7.example.com"}) {
    EXPECT_TRUE(IsSanIdentity(text)) << text;
  }
  for (const char* text :
       {"", "a", "uid:0", "spiffe://td", "spiffe://td/*", "spiffe://td/**",
        "SPIFFE://td/a", "https://td/a", "dns:*.example.com", "dns:A",
        "dns:a\nb", "spiffe://td/a b", "spiffe://td/\xff", "loopback"}) {
    EXPECT_FALSE(IsSanIdentity(text)) << text;
  }
  EXPECT_FALSE(IsSanIdentity(absl::string_view("dns:a\0b", 7)));
}

}  // namespace
}  // namespace tdp::server
