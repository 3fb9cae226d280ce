#include "client/lib/page_level.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(PageLevelTest, EachLevelHasAWordThatIsReadBack) {
  for (int level = v1::PAGE_LEVEL_4K; level <= v1::PAGE_LEVEL_256T; ++level) {
    const auto value = static_cast<v1::PageLevel>(level);
    const auto parsed =
        ParseLevel(LevelText(value), v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_256T);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, value);
  }
  EXPECT_EQ(LevelText(v1::PAGE_LEVEL_512G), "512G");
  EXPECT_EQ(LevelText(static_cast<v1::PageLevel>(9)), "level 9");
}

TEST(PageLevelTest, WordsAreReadInEitherCase) {
  EXPECT_EQ(*ParseLevel("2m", v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_1G),
            v1::PAGE_LEVEL_2M);
}

TEST(PageLevelTest, ALevelOutsideIsRefusedWithThoseInside) {
  for (const char* text : {"1G", "512g", "", "3", "4Kx"}) {
    EXPECT_EQ(ParseLevel(text, v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_2M)
                  .status()
                  .message(),
              "\"" + std::string(text) + "\" is none of 4K|2M");
  }
  EXPECT_FALSE(ParseLevel("4K", v1::PAGE_LEVEL_2M, v1::PAGE_LEVEL_1G).ok());
}

TEST(PageLevelTest, ChoicesAndWordsHaveBothEnds) {
  const auto choices = LevelChoices(v1::PAGE_LEVEL_2M, v1::PAGE_LEVEL_1G);
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(choices[0].first, "2M");
  EXPECT_EQ(choices[1].second, v1::PAGE_LEVEL_1G);
  EXPECT_EQ(LevelWords(v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_256T),
            "4K|2M|1G|512G|256T");
}

}  // namespace
}  // namespace tdp::client
