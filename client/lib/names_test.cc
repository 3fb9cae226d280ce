#include "client/lib/names.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(NamesTest, AVmMayBeNamedInFullOrByItsLastSegment) {
  EXPECT_EQ(VmName("demo"), "vms/demo");
  EXPECT_EQ(VmName("vms/demo"), "vms/demo");
}

TEST(NamesTest, APathNamesAVmAndPerhapsAMemslot) {
  for (const char* path : {"demo", "vms/demo"}) {
    EXPECT_EQ(VmNameIn(path), "vms/demo");
    EXPECT_EQ(MemslotIdIn(path), "");
  }
  for (const char* path : {"demo/ram", "vms/demo/ram", "demo/memslots/ram",
                           "vms/demo/memslots/ram"}) {
    EXPECT_EQ(VmNameIn(path), "vms/demo");
    EXPECT_EQ(MemslotIdIn(path), "ram");
  }
  EXPECT_EQ(MemslotIdIn("demo/memslots"), "memslots");
}

TEST(NamesTest, TheLastSegmentIsWhatPeopleType) {
  EXPECT_EQ(LastSegment("vms/demo/memslots/ram"), "ram");
  EXPECT_EQ(LastSegment("demo"), "demo");
  EXPECT_EQ(LastSegment(""), "");
}

}  // namespace
}  // namespace tdp::client
