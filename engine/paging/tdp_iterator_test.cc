#include "engine/paging/tdp_iterator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <tuple>
#include <vector>

#include "engine/paging/page_table_pool.h"
#include "engine/testing/spte_matchers.h"

namespace tdp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Level and first frame of an entry that a walk met.
using Met = std::tuple<int, uint64_t>;

class TdpIteratorTest : public ::testing::TestWithParam<PageLevel> {
 protected:
  TdpIteratorTest() {
    PageTable* root = nullptr;
    EXPECT_TRUE(pool_.AllocateExempt(&root).ok());
    tables_.push_back(root);
    tree_ = {root, GetParam()};
  }
  ~TdpIteratorTest() override {
    for (PageTable* table : tables_) pool_.Free(table);
  }

  SptePtr EntryAt(Gfn gfn, PageLevel level) {
    PageTable* table = tree_.root;
    for (PageLevel at = tree_.level; at > level; at = ChildLevel(at)) {
      const SptePtr entry = table->EntryAt(IndexIn(gfn, at));
      if (!ReadSpte(entry).IsTable(at)) {
        PageTable* child = nullptr;
        EXPECT_TRUE(pool_.Allocate(&child).ok());
        tables_.push_back(child);
        WriteOwnedSpte(entry, MakeTableSpte(child));
      }
      table = TableOf(ReadSpte(entry));
    }
    return table->EntryAt(IndexIn(gfn, level));
  }
  void PutLeaf(uint64_t gfn, PageLevel level = PageLevel::k4K) {
    WriteOwnedSpte(EntryAt(Gfn(gfn), level),
                   Spte::MakeLeaf({.pfn = Pfn(gfn)}, level));
  }
  uint64_t span_end() const { return tree_.frame_count(); }
  int root_level() const { return static_cast<int>(tree_.level); }

  std::vector<Met> WalkPresent(uint64_t start, uint64_t end,
                               PageLevel min_level = PageLevel::k4K) {
    RcuReadGuard rcu(rcu_);
    std::vector<Met> met;
    for (TdpIterator it(tree_, {Gfn(start), Gfn(end)}, min_level); it.valid();
         it.Next()) {
      if (!it.spte().IsPresent()) continue;
      met.emplace_back(static_cast<int>(it.level()), it.gfn().value());
    }
    return met;
  }
  std::vector<uint64_t> WalkLeaves(uint64_t start, uint64_t end) {
    std::vector<uint64_t> leaves;
    RcuReadGuard rcu(rcu_);
    for (TdpIterator it(tree_, {Gfn(start), Gfn(end)}); it.valid(); it.Next()) {
      if (it.spte().IsLeaf(it.level())) leaves.push_back(it.gfn().value());
    }
    return leaves;
  }

  RcuDomain rcu_{int64_t{64} << 20};
  PageTablePool pool_{rcu_, int64_t{64} << 20};
  std::vector<PageTable*> tables_;
  TdpTree tree_;
};

TEST_P(TdpIteratorTest, AParentComesBeforeItsChildrenInAscendingOrder) {
  PutLeaf(3);
  PutLeaf(5);
  PutLeaf(1024, PageLevel::k2M);
  PutLeaf(uint64_t{1} << 18, PageLevel::k1G);
  std::vector<Met> met = WalkPresent(0, span_end());
  std::vector<Met> expected;
  for (int level = root_level(); level > 1; --level) {
    expected.emplace_back(level, 0);
  }
  expected.insert(expected.end(),
                  {{1, 3}, {1, 5}, {2, 1024}, {3, uint64_t{1} << 18}});
  EXPECT_EQ(met, expected);
}

TEST_P(TdpIteratorTest, AnEmptyTreeShowsTheRootsEntriesOfTheRange) {
  RcuReadGuard rcu(rcu_);
  int visits = 0;
  for (TdpIterator it(tree_, tree_.span()); it.valid(); it.Next()) {
    EXPECT_EQ(it.level(), tree_.level);
    EXPECT_TRUE(it.spte().IsNonPresent());
    ++visits;
  }
  EXPECT_EQ(visits, kEntriesPerTable);
  TdpIterator one(tree_, {Gfn(7), Gfn(8)});
  EXPECT_EQ(one.gfn(), Gfn(0));
  EXPECT_TRUE(one.covered().Contains(GfnRange{Gfn(7), Gfn(8)}));
  one.Next();
  EXPECT_FALSE(one.valid());
}

TEST_P(TdpIteratorTest, TheFirstAndTheLastFrameOfTheSpanAreReached) {
  PutLeaf(0);
  PutLeaf(span_end() - 1);
  EXPECT_THAT(WalkLeaves(0, span_end()), ElementsAre(0, span_end() - 1));
  EXPECT_THAT(WalkLeaves(0, 1), ElementsAre(0));
  EXPECT_THAT(WalkLeaves(span_end() - 1, span_end()),
              ElementsAre(span_end() - 1));
}

TEST_P(TdpIteratorTest, RangesAreHalfOpenAtEveryLevelsEdge) {
  for (PageLevel level = PageLevel::k4K; level <= tree_.level;
       level = ParentLevel(level)) {
    const uint64_t edge = FramesPerEntry(level) * (kEntriesPerTable / 2);
    PutLeaf(edge - 1);
    PutLeaf(edge);
    EXPECT_THAT(WalkLeaves(edge - 1, edge + 1), ElementsAre(edge - 1, edge));
    EXPECT_THAT(WalkLeaves(edge - 1, edge), ElementsAre(edge - 1));
    EXPECT_THAT(WalkLeaves(edge, edge + 1), ElementsAre(edge));
  }
  // The last entry of one table and the first of the next.
  PutLeaf(511);
  PutLeaf(512);
  EXPECT_THAT(WalkLeaves(511, 513), ElementsAre(511, 512));
  PutLeaf((uint64_t{1} << 18) - 1);
  PutLeaf(uint64_t{1} << 18);
  EXPECT_THAT(WalkLeaves((uint64_t{1} << 18) - 1, (uint64_t{1} << 18) + 1),
              ElementsAre((uint64_t{1} << 18) - 1, uint64_t{1} << 18));
}

TEST_P(TdpIteratorTest, ARangeBeyondTheSpanIsClipped) {
  PutLeaf(span_end() - 1);
  EXPECT_THAT(WalkLeaves(span_end() - 2, ~uint64_t{0}),
              ElementsAre(span_end() - 1));
  RcuReadGuard rcu(rcu_);
  EXPECT_FALSE(
      TdpIterator(tree_, {Gfn(span_end()), Gfn(~uint64_t{0})}).valid());
}

TEST_P(TdpIteratorTest, AnEmptyRangeHasNoEntry) {
  RcuReadGuard rcu(rcu_);
  EXPECT_FALSE(TdpIterator(tree_, {Gfn(5), Gfn(5)}).valid());
  EXPECT_FALSE(TdpIterator(tree_, {Gfn(6), Gfn(5)}).valid());
}

TEST_P(TdpIteratorTest, TheWalkDoesNotGoBelowItsLowestLevel) {
  PutLeaf(3);
  PutLeaf(700);
  PutLeaf(uint64_t{1} << 18);
  const std::vector<Met> met =
      WalkPresent(0, uint64_t{1} << 19, PageLevel::k2M);
  for (const auto& [level, gfn] : met) EXPECT_GE(level, 2);
  EXPECT_THAT(met, ::testing::IsSupersetOf(
                       {Met{2, 0}, Met{2, 512}, Met{2, uint64_t{1} << 18}}));
}

TEST_P(TdpIteratorTest, ATableLinkedAfterItsEntryWasReadIsWalked) {
  PutLeaf(0);
  RcuReadGuard rcu(rcu_);
  TdpIterator it(tree_, {Gfn(512), Gfn(1024)});
  while (it.level() > PageLevel::k2M) it.Next();
  ASSERT_TRUE(it.spte().IsNonPresent());
  PutLeaf(600);
  it.Next();
  EXPECT_EQ(it.level(), PageLevel::k4K);
  EXPECT_EQ(it.gfn(), Gfn(512));
}

TEST_P(TdpIteratorTest, ATableUnlinkedAfterItsEntryWasReadIsNotEntered) {
  PutLeaf(600);
  PutLeaf(1024);
  RcuReadGuard rcu(rcu_);
  TdpIterator it(tree_, {Gfn(512), Gfn(1025)});
  while (it.level() > PageLevel::k2M) it.Next();
  ASSERT_TRUE(it.spte().IsTable(PageLevel::k2M));
  WriteOwnedSpte(it.entry(), Spte::NonPresent());
  it.Next();
  EXPECT_EQ(it.level(), PageLevel::k2M);
  EXPECT_EQ(it.gfn(), Gfn(512));
  EXPECT_TRUE(it.spte().IsNonPresent());
  it.Next();
  EXPECT_EQ(it.level(), PageLevel::k2M);
  EXPECT_EQ(it.gfn(), Gfn(1024));
}

TEST_P(TdpIteratorTest, ALeafThatReplacesATableWhileItIsVisitedIsVisitedToo) {
  PutLeaf(512);
  const SptePtr parent = EntryAt(Gfn(512), PageLevel::k2M);
  RcuReadGuard rcu(rcu_);
  std::vector<Gfn> leaves;
  for (TdpIterator it(tree_, {Gfn(0), Gfn(1024)}); it.valid(); it.Next()) {
    if (it.spte().IsLeaf(it.level())) leaves.push_back(it.gfn());
    if (it.level() == PageLevel::k2M && it.spte().IsTable(it.level())) {
      WriteOwnedSpte(parent, Spte::MakeLeaf({.pfn = Pfn(512)}, PageLevel::k2M));
    }
  }
  EXPECT_THAT(leaves, ElementsAre(Gfn(512)));
}

TEST_P(TdpIteratorTest, RefreshShowsTheEntryAsItIsNow) {
  PutLeaf(0);
  RcuReadGuard rcu(rcu_);
  TdpIterator it(tree_, {Gfn(0), Gfn(1)});
  while (it.level() > PageLevel::k4K) it.Next();
  WriteOwnedSpte(it.entry(), Spte::Frozen());
  EXPECT_TRUE(it.spte().IsLeaf(PageLevel::k4K));
  it.Refresh();
  EXPECT_TRUE(it.spte().IsFrozen());
}

TEST_P(TdpIteratorTest, ARestartGoesOnAtTheFirstFrameNotPassed) {
  for (const uint64_t gfn : {0, 1, 511, 512, 513}) PutLeaf(gfn);
  for (uint64_t passed = 0; passed < 514; ++passed) {
    std::vector<uint64_t> after;
    TdpIterator it = [&] {
      RcuReadGuard rcu(rcu_);
      TdpIterator walk(tree_, {Gfn(0), Gfn(514)});
      while (walk.next_gfn() < Gfn(passed)) walk.Next();
      return walk;
    }();
    const Gfn before = it.next_gfn();
    RcuReadGuard rcu(rcu_);
    it.Restart();
    EXPECT_EQ(it.level(), tree_.level);
    EXPECT_EQ(it.next_gfn(), before);
    for (; it.valid(); it.Next()) {
      if (it.spte().IsLeaf(it.level())) after.push_back(it.gfn().value());
    }
    std::vector<uint64_t> expected;
    for (const uint64_t gfn : {0, 1, 511, 512, 513}) {
      if (gfn >= passed) expected.push_back(gfn);
    }
    EXPECT_EQ(after, expected) << passed;
  }
}

TEST_P(TdpIteratorTest, ARestartAfterEveryFrameStillEnds) {
  PutLeaf(0);
  PutLeaf(511);
  std::vector<uint64_t> leaves;
  RcuReadGuard rcu(rcu_);
  TdpIterator it(tree_, {Gfn(0), Gfn(600)});
  Gfn yielded(0);
  int steps = 0;
  while (it.valid()) {
    ASSERT_LT(++steps, 10'000);
    if (it.spte().IsLeaf(it.level())) leaves.push_back(it.gfn().value());
    const Gfn before = it.next_gfn();
    it.Next();
    EXPECT_GE(it.next_gfn(), before);
    if (it.valid() && it.next_gfn() > yielded) {
      yielded = it.next_gfn();
      it.Restart();
    }
  }
  EXPECT_THAT(leaves, ElementsAre(0, 511));
}

TEST_P(TdpIteratorTest, AFrozenEntryIsShownAndNotEntered) {
  PutLeaf(600);
  const SptePtr entry = EntryAt(Gfn(600), PageLevel::k2M);
  WriteOwnedSpte(entry, Spte::Frozen());
  EXPECT_THAT(WalkLeaves(512, 1024), IsEmpty());
  RcuReadGuard rcu(rcu_);
  EXPECT_TRUE(FindLastEntry(tree_, Gfn(600)).spte.IsFrozen());
}

TEST_P(TdpIteratorTest, TheLastEntryOfAFrameIsWhereItsPathEnds) {
  PutLeaf(5);
  PutLeaf(512, PageLevel::k2M);
  RcuReadGuard rcu(rcu_);
  EXPECT_EQ(FindLastEntry(tree_, Gfn(5)).level, PageLevel::k4K);
  EXPECT_TRUE(FindLastEntry(tree_, Gfn(6)).spte.IsNonPresent());
  const LastEntry huge = FindLastEntry(tree_, Gfn(1023));
  EXPECT_EQ(huge.level, PageLevel::k2M);
  EXPECT_EQ(huge.spte.pfn(), Pfn(512));
  EXPECT_EQ(FindLastEntry(tree_, Gfn(1024)).level, PageLevel::k2M);
  EXPECT_EQ(FindLastEntry(tree_, Gfn(span_end() - 1)).level, tree_.level);
}

TEST_P(TdpIteratorTest, RandomTreesShowExactlyTheLeavesOfTheRange) {
  constexpr uint64_t kSeed = 42;
  std::mt19937_64 random(kSeed);
  const uint64_t window = uint64_t{1} << 19;
  std::vector<uint64_t> leaves;
  for (int i = 0; i < 200; ++i) leaves.push_back(random() % window);
  std::sort(leaves.begin(), leaves.end());
  leaves.erase(std::unique(leaves.begin(), leaves.end()), leaves.end());
  for (const uint64_t gfn : leaves) PutLeaf(gfn);
  for (int i = 0; i < 200; ++i) {
    const uint64_t start = random() % window;
    const uint64_t end = start + random() % (window - start) + 1;
    const std::vector<uint64_t> expected(
        std::lower_bound(leaves.begin(), leaves.end(), start),
        std::lower_bound(leaves.begin(), leaves.end(), end));
    EXPECT_EQ(WalkLeaves(start, end), expected)
        << "seed " << kSeed << ", range " << start << " to " << end;
  }
}

INSTANTIATE_TEST_SUITE_P(RootLevels, TdpIteratorTest,
                         ::testing::Values(PageLevel::k512G, PageLevel::k256T),
                         [](const auto& level) {
                           return level.param == PageLevel::k512G
                                      ? "FourLevels"
                                      : "FiveLevels";
                         });

}  // namespace
}  // namespace tdp
