#include "engine/mmu/access_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace tdp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Access kNone = {};
constexpr Access kRead = {.read = true};
constexpr Access kAll = AccessLimits::kUnlimited;

GfnRange Frames(uint64_t start, uint64_t end) { return {Gfn(start), Gfn(end)}; }

class AccessLimitsTest : public ::testing::Test {
 protected:
  absl::Status Set(GfnRange range, Access access) {
    MutexLock lock(limits_.change_mutex());
    const AccessLimit change = {range, access};
    auto list = limits_.Prepare(absl::MakeConstSpan(&change, 1));
    if (!list.ok()) return list.status();
    limits_.Publish(*std::move(list));
    return absl::OkStatus();
  }
  Access At(uint64_t gfn) {
    RcuReadGuard rcu(rcu_);
    return limits_.At(Gfn(gfn)).access;
  }
  uint64_t EndAt(uint64_t gfn) {
    RcuReadGuard rcu(rcu_);
    return limits_.At(Gfn(gfn)).end.value();
  }
  std::vector<AccessLimit> In(GfnRange range) {
    MutexLock lock(limits_.change_mutex());
    return limits_.In(range);
  }

  RcuDomain rcu_{int64_t{64} << 20};
  AccessLimits limits_{rcu_};
};

TEST_F(AccessLimitsTest, NothingIsLimitedAtFirst) {
  EXPECT_EQ(At(0), kAll);
  EXPECT_EQ(EndAt(0), ~uint64_t{0});
}

TEST_F(AccessLimitsTest, ARangeIsLimitedUpToItsEnds) {
  ASSERT_TRUE(Set(Frames(10, 20), kRead).ok());
  EXPECT_EQ(At(9), kAll);
  EXPECT_EQ(EndAt(9), 10u);
  EXPECT_EQ(At(10), kRead);
  EXPECT_EQ(EndAt(10), 20u);
  EXPECT_EQ(At(20), kAll);
}

TEST_F(AccessLimitsTest, RangesThatSayTheSameMergeAndOthersAreCut) {
  ASSERT_TRUE(Set(Frames(10, 20), kRead).ok());
  ASSERT_TRUE(Set(Frames(20, 30), kRead).ok());
  EXPECT_EQ(EndAt(10), 30u);
  ASSERT_TRUE(Set(Frames(15, 18), kNone).ok());
  EXPECT_THAT(In(Frames(0, 100)),
              ElementsAre(AccessLimit{Frames(10, 15), kRead},
                          AccessLimit{Frames(15, 18), kNone},
                          AccessLimit{Frames(18, 30), kRead}));
  ASSERT_TRUE(Set(Frames(0, 100), kAll).ok());
  EXPECT_THAT(In(Frames(0, 100)), IsEmpty());
}

TEST_F(AccessLimitsTest, WhatIsMovedIsForgottenWhereItWas) {
  ASSERT_TRUE(Set(Frames(10, 20), kRead).ok());
  ASSERT_TRUE(Set(Frames(30, 40), kNone).ok());
  limits_.Move(Frames(0, 32), Gfn(100));
  EXPECT_THAT(In(Frames(0, 200)),
              ElementsAre(AccessLimit{Frames(32, 40), kNone},
                          AccessLimit{Frames(110, 120), kRead},
                          AccessLimit{Frames(130, 132), kNone}));
  limits_.Clear(Frames(115, 131));
  EXPECT_EQ(At(114), kRead);
  EXPECT_EQ(At(115), kAll);
  EXPECT_EQ(At(131), kNone);
}

TEST_F(AccessLimitsTest, AMoveOntoItselfKeepsEverything) {
  ASSERT_TRUE(Set(Frames(0, 10), kRead).ok());
  limits_.Move(Frames(0, 10), Gfn(5));
  EXPECT_EQ(At(4), kAll);
  EXPECT_EQ(At(5), kRead);
  EXPECT_EQ(At(14), kRead);
}

TEST_F(AccessLimitsTest, AgreesWithAFlatArrayAfterRandomChanges) {
  constexpr uint64_t kFrames = 64;
  std::mt19937_64 random(20240607);
  std::vector<Access> model(kFrames, kAll);
  for (int i = 0; i < 5000; ++i) {
    const uint64_t start = random() % kFrames;
    const uint64_t end = start + 1 + random() % (kFrames - start);
    const Access access = std::vector<Access>{kNone, kRead, kAll}[random() % 3];
    ASSERT_TRUE(Set(Frames(start, end), access).ok());
    for (uint64_t gfn = start; gfn < end; ++gfn) model[gfn] = access;
    for (uint64_t gfn = 0; gfn < kFrames; ++gfn) {
      ASSERT_EQ(At(gfn), model[gfn]) << "change " << i << ", frame " << gfn;
      const uint64_t next = std::min(EndAt(gfn), kFrames);
      for (uint64_t k = gfn; k < next; ++k) ASSERT_EQ(model[k], model[gfn]);
      ASSERT_TRUE(next == kFrames || model[next] != model[gfn]);
    }
  }
}

}  // namespace
}  // namespace tdp
