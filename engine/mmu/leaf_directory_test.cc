#include "engine/mmu/leaf_directory.h"

#include <gtest/gtest.h>

namespace tdp {
namespace {

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);

TEST(LeafDirectoryTest, FindsWhatWasSetUntilItIsCleared) {
  auto directory = LeafDirectory::Create(FramesOfRoot(PageLevel::k512G));
  ASSERT_TRUE(directory.ok());
  PageTable tables[2];
  (*directory)->Set(Gfn(0), &tables[0]);
  (*directory)->Set(Gfn(5 * kBlock), &tables[1]);
  EXPECT_EQ((*directory)->Find(Gfn(kBlock - 1)), &tables[0]);
  EXPECT_EQ((*directory)->Find(Gfn(kBlock)), nullptr);
  EXPECT_EQ((*directory)->Find(Gfn(5 * kBlock + 3)), &tables[1]);
  EXPECT_TRUE((*directory)->MayUnlink(Gfn(0), &tables[0]));
  EXPECT_FALSE((*directory)->MayUnlink(Gfn(kBlock), &tables[0]))
      << "who links it has not set it yet";
  (*directory)->Clear(Gfn(5 * kBlock));
  EXPECT_EQ((*directory)->Find(Gfn(5 * kBlock)), nullptr);
}

TEST(LeafDirectoryTest, KnowsNothingBeyondItsEndAndSaysSo) {
  auto directory = LeafDirectory::Create(FramesOfRoot(PageLevel::k256T));
  ASSERT_TRUE(directory.ok());
  PageTable table;
  const Gfn last(FramesOfRoot(PageLevel::k256T) - 1);
  (*directory)->Set(last, &table);
  EXPECT_EQ((*directory)->Find(last), nullptr);
  EXPECT_TRUE((*directory)->MayUnlink(last, &table));
  (*directory)->Clear(last);
}

TEST(LeafDirectoryTest, TakesMemoryByTheGibibyte) {
  constexpr uint64_t kGiant = FramesPerEntry(PageLevel::k1G);
  auto directory = LeafDirectory::Create(FramesOfRoot(PageLevel::k512G));
  ASSERT_TRUE(directory.ok());
  EXPECT_EQ((*directory)->resident_bytes(), 0);
  PageTable table;
  (*directory)->Set(Gfn(0), &table);
  (*directory)->Set(Gfn(kGiant - 1), &table);
  EXPECT_EQ((*directory)->resident_bytes(), static_cast<int64_t>(kPageSize));
  (*directory)->Set(Gfn(kGiant), &table);
  EXPECT_EQ((*directory)->resident_bytes(),
            2 * static_cast<int64_t>(kPageSize));
}

}  // namespace
}  // namespace tdp
