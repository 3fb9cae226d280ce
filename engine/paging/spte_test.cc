#include "engine/paging/spte.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/testing/spte_matchers.h"

namespace tdp {
namespace {

using testing::IsReadOnlyLeaf;
using testing::IsWritableLeaf;

constexpr PageLevel kAllLevels[] = {PageLevel::k4K, PageLevel::k2M,
                                    PageLevel::k1G, PageLevel::k512G,
                                    PageLevel::k256T};
constexpr PageLevel kLeafLevels[] = {PageLevel::k4K, PageLevel::k2M,
                                     PageLevel::k1G};

// Every combination of bits that a leaf may have.
std::vector<Spte::LeafFields> AllLeafFields() {
  std::vector<Spte::LeafFields> all;
  for (const bool accessed : {false, true}) {
    for (int rights = 0; rights < 4; ++rights) {
      all.push_back({.pfn = Pfn(uint64_t{5} << 18),
                     .writable = rights >= 3,
                     .mmu_writable = rights >= 2,
                     .host_writable = rights >= 1,
                     .accessed = accessed});
    }
  }
  return all;
}

// How many of the four kinds of entries this one is.
int Kinds(Spte spte, PageLevel level) {
  return spte.IsNonPresent() + spte.IsFrozen() + spte.IsLeaf(level) +
         spte.IsTable(level);
}

TEST(SpteTest, EveryEntryIsOfExactlyOneKind) {
  for (const PageLevel level : kAllLevels) {
    EXPECT_EQ(Kinds(Spte::NonPresent(), level), 1);
    EXPECT_EQ(Kinds(Spte::Frozen(), level), 1);
    if (level > PageLevel::k4K) {
      const Spte table = Spte::MakeTable(0x7f12'3456'7000);
      EXPECT_EQ(Kinds(table, level), 1);
      EXPECT_TRUE(table.IsTable(level));
    }
  }
  for (const PageLevel level : kLeafLevels) {
    for (const Spte::LeafFields& fields : AllLeafFields()) {
      const Spte leaf = Spte::MakeLeaf(fields, level);
      EXPECT_EQ(Kinds(leaf, level), 1);
      EXPECT_TRUE(leaf.IsLeaf(level));
      EXPECT_EQ(leaf.IsHuge(level), level > PageLevel::k4K);
    }
  }
}

TEST(SpteTest, TheDefaultIsNonPresentAndNotZero) {
  EXPECT_EQ(Spte(), Spte::NonPresent());
  EXPECT_EQ(Spte().raw(), uint64_t{1} << 63);
}

TEST(SpteTest, WhatIsNotPresentGrantsNothing) {
  for (const Spte spte : {Spte::NonPresent(), Spte::Frozen()}) {
    EXPECT_FALSE(spte.IsPresent());
    EXPECT_FALSE(spte.IsHostMapped());
    EXPECT_FALSE(spte.Permits({.read = true}));
    EXPECT_FALSE(spte.Permits({.read = true, .write = true}));
    EXPECT_EQ(spte.pfn(), Pfn(0));
    EXPECT_NE(spte.raw() >> 63, 0u) << "SUPPRESS_VE";
  }
  EXPECT_NE(Spte::NonPresent(), Spte::Frozen());
}

TEST(SpteTest, ALeafHasTheBitsOfItsFields) {
  for (const PageLevel level : kLeafLevels) {
    for (const Spte::LeafFields& fields : AllLeafFields()) {
      const Spte leaf = Spte::MakeLeaf(fields, level);
      EXPECT_EQ(leaf.pfn(), fields.pfn);
      EXPECT_EQ(leaf.IsWritable(), fields.writable);
      EXPECT_EQ(leaf.IsDirty(), fields.writable) << "D comes with W";
      EXPECT_EQ(leaf.IsMmuWritable(), fields.mmu_writable);
      EXPECT_EQ(leaf.IsHostWritable(), fields.host_writable);
      EXPECT_EQ(leaf.IsAccessed(), fields.accessed);
      EXPECT_TRUE(leaf.IsReadable());
      EXPECT_TRUE(leaf.CheckLeafInvariants());
      EXPECT_NE(leaf.raw() & 4, 0u) << "X comes with R";
      EXPECT_EQ(leaf.access(),
                (Access{.read = true, .write = fields.writable}));
    }
  }
}

TEST(SpteTest, TheLayoutIsThatOfEpt) {
  const Spte leaf = Spte::MakeLeaf({.pfn = Pfn(0xabcde),
                                    .writable = true,
                                    .mmu_writable = true,
                                    .host_writable = true},
                                   PageLevel::k4K);
  EXPECT_EQ(leaf.raw(), (uint64_t{1} << 63) | (uint64_t{3} << 57) |
                            (uint64_t{0xabcde} << 12) | 0xb77);
  EXPECT_EQ(Spte::Frozen().raw(), (uint64_t{1} << 63) | 0x5a0);
}

TEST(SpteTest, TheLargestPfnSurvives) {
  const Pfn largest((uint64_t{1} << 40) - 1);
  const Spte leaf = Spte::MakeLeaf({.pfn = largest}, PageLevel::k4K);
  EXPECT_EQ(leaf.pfn(), largest);
  EXPECT_FALSE(leaf.IsWritable());
  EXPECT_FALSE(leaf.IsHostWritable());
}

TEST(SpteTest, ATableKeepsItsAddress) {
  constexpr uint64_t kAddress = 0x7fff'ffff'f000;
  const Spte table = Spte::MakeTable(kAddress);
  EXPECT_EQ(table.table_address(), kAddress);
  EXPECT_TRUE(table.IsPresent());
  EXPECT_FALSE(table.IsHuge(PageLevel::k2M));
  EXPECT_EQ(table.access(), (Access{.read = true, .write = true}));
}

TEST(SpteTest, ALeafPermitsWhatTheHostMaps) {
  const Spte read_only = Spte::MakeLeaf(
      {.pfn = Pfn(1), .mmu_writable = true, .host_writable = true},
      PageLevel::k4K);
  EXPECT_TRUE(read_only.Permits({.read = true}));
  EXPECT_FALSE(read_only.Permits({.read = true, .write = true}));
  EXPECT_TRUE(read_only.IsHostMapped());
  const Spte old = Spte::MakeLeaf({.pfn = Pfn(1),
                                   .writable = true,
                                   .mmu_writable = true,
                                   .host_writable = true,
                                   .accessed = false},
                                  PageLevel::k4K);
  EXPECT_FALSE(old.Permits({.read = true})) << "A is clear: not mapped";
  EXPECT_FALSE(old.IsHostMapped());
  EXPECT_TRUE(old.WithAccessed().Permits({.read = true, .write = true}));
}

TEST(SpteTest, GrantingAWriteKeepsTheInvariants) {
  const Spte before = Spte::MakeLeaf({.pfn = Pfn(7),
                                      .mmu_writable = true,
                                      .host_writable = true,
                                      .accessed = false},
                                     PageLevel::k4K);
  const Spte granted = before.WithWrite();
  EXPECT_THAT(granted, IsWritableLeaf());
  EXPECT_TRUE(granted.CheckLeafInvariants());
  EXPECT_EQ(granted.pfn(), before.pfn());
  const Spte taken = granted.WithoutWrite();
  EXPECT_THAT(taken, IsReadOnlyLeaf());
  EXPECT_TRUE(taken.IsDirty()) << "clearing W does not clear D";
  EXPECT_TRUE(taken.CheckLeafInvariants());
}

TEST(SpteTest, TheInvariantsRejectEveryIllegalCombination) {
  constexpr uint64_t kWrite = 2, kDirty = 1 << 9;
  const Spte read_only = Spte::MakeLeaf({.pfn = Pfn(1)}, PageLevel::k4K);
  const Spte mmu_writable = Spte::MakeLeaf(
      {.pfn = Pfn(1), .mmu_writable = true, .host_writable = true},
      PageLevel::k4K);
  EXPECT_FALSE(
      Spte::FromRaw(read_only.raw() | kWrite | kDirty).CheckLeafInvariants());
  EXPECT_FALSE(
      Spte::FromRaw(mmu_writable.raw() | kWrite).CheckLeafInvariants());
  EXPECT_FALSE(
      Spte::FromRaw(read_only.raw() | uint64_t{1} << 58).CheckLeafInvariants());
  EXPECT_FALSE(Spte::FromRaw((mmu_writable.WithWrite().raw()) & ~uint64_t{1})
                   .CheckLeafInvariants());
}

TEST(SpteTest, TheChildrenOfAHugeLeafSayWhatItSaid) {
  for (const PageLevel level : {PageLevel::k2M, PageLevel::k1G}) {
    const PageLevel child_level = ChildLevel(level);
    for (const Spte::LeafFields& fields : AllLeafFields()) {
      const Spte huge = Spte::MakeLeaf(fields, level);
      for (const int index : {0, 1, 255, 511}) {
        const Spte child = huge.ChildOfHuge(level, index);
        Spte::LeafFields expected = fields;
        expected.pfn = fields.pfn + static_cast<uint64_t>(index) *
                                        FramesPerEntry(child_level);
        EXPECT_EQ(child, Spte::MakeLeaf(expected, child_level));
        EXPECT_TRUE(IsAligned(child.pfn().value(), child_level));
      }
    }
  }
}

TEST(SpteTest, A1GLeafSplitTwiceEndsInTheFramesItMapped) {
  const Spte huge =
      Spte::MakeLeaf({.pfn = Pfn(uint64_t{3} << 18)}, PageLevel::k1G);
  const Spte last =
      huge.ChildOfHuge(PageLevel::k1G, 511).ChildOfHuge(PageLevel::k2M, 511);
  EXPECT_EQ(last.pfn(), Pfn((uint64_t{4} << 18) - 1));
  EXPECT_TRUE(last.IsLeaf(PageLevel::k4K));
  EXPECT_FALSE(last.IsHuge(PageLevel::k4K));
}

}  // namespace
}  // namespace tdp
