#include "client/tdpbench/mix.h"

#include <map>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(MixTest, GivesEachOperationItsShare) {
  const auto mix = Mix::Parse("walk_gfn=90,map=6,zap=4");
  ASSERT_TRUE(mix.ok());
  std::map<Operation, int> counts;
  for (uint64_t i = 0; i < 1000; ++i) ++counts[mix->Pick(i)];
  EXPECT_EQ(counts[Operation::kWalkGfn], 900);
  EXPECT_EQ(counts[Operation::kMap], 60);
  EXPECT_EQ(counts[Operation::kZap], 40);
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_TRUE(mix->Has(Operation::kZap));
  EXPECT_FALSE(mix->Has(Operation::kAge));
}

TEST(MixTest, ANameAloneWeighsOne) {
  const auto mix = Mix::Parse("get_vm,get_info=3");
  ASSERT_TRUE(mix.ok());
  EXPECT_EQ(mix->Pick(0), Operation::kGetVm);
  EXPECT_EQ(mix->Pick(1), Operation::kGetInfo);
  EXPECT_EQ(mix->Pick(3), Operation::kGetInfo);
  EXPECT_EQ(mix->Pick(4), Operation::kGetVm);
}

TEST(MixTest, EveryOperationHasAName) {
  for (size_t i = 0; i < kOperationCount; ++i) {
    const auto operation = static_cast<Operation>(i);
    const auto mix = Mix::Parse(OperationName(operation));
    ASSERT_TRUE(mix.ok());
    EXPECT_EQ(mix->Pick(7), operation);
  }
}

TEST(MixTest, RefusesWhatCannotBeMeant) {
  for (const char* text :
       {"", "walk", "walk_gfn=", "walk_gfn=0", "walk_gfn=-1", "map=1000001",
        "map=1,,zap=1", "map=1,map=2", "map = 1"}) {
    EXPECT_FALSE(Mix::Parse(text).ok()) << text;
  }
  EXPECT_EQ(Mix::Parse("map=1,map=2").status().message(),
            "the mix names map twice");
}

}  // namespace
}  // namespace tdp::client
