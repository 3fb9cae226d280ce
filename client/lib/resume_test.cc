#include "client/lib/resume.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::WalkRangeResponse Batch(
    const std::vector<std::pair<uint64_t, v1::PageLevel>>& sptes,
    uint64_t next_gfn) {
  v1::WalkRangeResponse response;
  for (const auto& [base, level] : sptes) {
    v1::Spte* spte = response.add_sptes();
    spte->set_base_gfn(base);
    spte->set_level(level);
  }
  response.set_next_gfn(next_gfn);
  return response;
}

std::vector<std::pair<uint64_t, int>> Entries(
    const v1::WalkRangeResponse& response) {
  std::vector<std::pair<uint64_t, int>> entries;
  for (const v1::Spte& spte : response.sptes()) {
    entries.emplace_back(spte.base_gfn(), spte.level());
  }
  return entries;
}

using Pair = std::pair<uint64_t, int>;

class WalkProgressTest : public testing::Test {
 protected:
  WalkProgressTest() { next_.mutable_range()->set_end_gfn(2048); }

  std::vector<Pair> Take(v1::WalkRangeResponse response) {
    after_ = progress_.Advance(response, next_);
    return Entries(response);
  }

  v1::WalkRangeRequest next_;
  WalkProgress progress_;
  AfterBreak after_ = AfterBreak::kGoOn;
};

TEST_F(WalkProgressTest, TheTablesOnThePathAreShownOnce) {
  EXPECT_THAT(
      Take(Batch({{0, v1::PAGE_LEVEL_512G},
                  {0, v1::PAGE_LEVEL_1G},
                  {0, v1::PAGE_LEVEL_2M},
                  {0, v1::PAGE_LEVEL_4K},
                  {1, v1::PAGE_LEVEL_4K}},
                 2)),
      ElementsAre(Pair(0, 4), Pair(0, 3), Pair(0, 2), Pair(0, 1), Pair(1, 1)));
  EXPECT_EQ(next_.range().start_gfn(), 2u);
  EXPECT_THAT(Take(Batch({{0, v1::PAGE_LEVEL_512G},
                          {0, v1::PAGE_LEVEL_1G},
                          {0, v1::PAGE_LEVEL_2M},
                          {2, v1::PAGE_LEVEL_4K},
                          {512, v1::PAGE_LEVEL_2M}},
                         1024)),
              ElementsAre(Pair(2, 1), Pair(512, 2)));
  EXPECT_EQ(after_, AfterBreak::kGoOn);
  EXPECT_THAT(Take(Batch({{0, v1::PAGE_LEVEL_512G},
                          {0, v1::PAGE_LEVEL_1G},
                          {1024, v1::PAGE_LEVEL_2M},
                          {1536, v1::PAGE_LEVEL_2M}},
                         2048)),
              ElementsAre(Pair(1024, 2), Pair(1536, 2)));
  EXPECT_EQ(after_, AfterBreak::kComplete);
}

TEST_F(WalkProgressTest, ATableAtTheEndOfABatchIsNotShownAgain) {
  Take(Batch({{0, v1::PAGE_LEVEL_512G}, {512, v1::PAGE_LEVEL_2M}}, 512));
  EXPECT_THAT(Take(Batch({{0, v1::PAGE_LEVEL_512G},
                          {512, v1::PAGE_LEVEL_2M},
                          {512, v1::PAGE_LEVEL_4K}},
                         513)),
              ElementsAre(Pair(512, 1)));
}

TEST_F(WalkProgressTest, AWalkFromTheMiddleShowsThePathToItsStart) {
  next_.mutable_range()->set_start_gfn(700);
  EXPECT_THAT(
      Take(Batch({{0, v1::PAGE_LEVEL_512G}, {512, v1::PAGE_LEVEL_2M}}, 1024)),
      ElementsAre(Pair(0, 4), Pair(512, 2)));
}

TEST_F(WalkProgressTest, WhatOneStreamShowsIsLeftAsItIs) {
  EXPECT_THAT(Take(Batch({{0, v1::PAGE_LEVEL_2M}}, 512)),
              ElementsAre(Pair(0, 2)));
  EXPECT_THAT(Take(Batch({{512, v1::PAGE_LEVEL_2M}}, 1024)),
              ElementsAre(Pair(512, 2)));
  EXPECT_THAT(Take(Batch({}, 1024)), IsEmpty());
}

TEST(AdvanceTest, EventsGoOnAtTheNextSequenceNumber) {
  v1::WatchEventsRequest next;
  v1::WatchEventsResponse response;
  response.set_next_sequence(7);
  EXPECT_EQ(Advance(response, next), AfterBreak::kGoOn);
  EXPECT_EQ(next.start_sequence(), 7);
}

TEST(AdvanceTest, BytesGoOnBehindThoseRead) {
  v1::ReadGuestMemoryRequest next;
  next.set_gpa(100);
  next.set_size_bytes(10);
  v1::ReadGuestMemoryResponse response;
  response.set_gpa(100);
  response.set_data("abcd");
  EXPECT_EQ(Advance(response, next), AfterBreak::kGoOn);
  EXPECT_EQ(next.gpa(), 104u);
  EXPECT_EQ(next.size_bytes(), 6);
  response.set_gpa(104);
  response.set_data("efghij");
  EXPECT_EQ(Advance(response, next), AfterBreak::kComplete);
}

TEST(AdvanceTest, TheDirtyLogGoesOnInsideARangeOnly) {
  v1::ReadDirtyLogResponse response;
  response.mutable_dirty()->set_first_gfn(64);
  response.mutable_dirty()->set_frame_count(64);
  v1::ReadDirtyLogRequest whole;
  EXPECT_EQ(Advance(response, whole), AfterBreak::kCannot);
  v1::ReadDirtyLogRequest part;
  part.mutable_range()->set_end_gfn(256);
  EXPECT_EQ(Advance(response, part), AfterBreak::kGoOn);
  EXPECT_EQ(part.range().start_gfn(), 128u);
  part.mutable_range()->set_end_gfn(128);
  EXPECT_EQ(Advance(response, part), AfterBreak::kComplete);
}

TEST(AdvanceTest, SamplesAreAskedForAsBefore) {
  v1::WatchVmStatsRequest stats;
  stats.set_vm("vms/a");
  EXPECT_EQ(Advance(v1::WatchVmStatsResponse(), stats), AfterBreak::kGoOn);
  EXPECT_EQ(stats.vm(), "vms/a");
  v1::WatchWorkingSetRequest working_set;
  working_set.set_vm("vms/a");
  EXPECT_EQ(Advance(v1::WatchWorkingSetResponse(), working_set),
            AfterBreak::kGoOn);
  EXPECT_EQ(working_set.vm(), "vms/a");
}

}  // namespace
}  // namespace tdp::client
