// A window whose writes the kernel notes by itself.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "engine/memory/memory_test_util.h"
#include "engine/memory/memslot.h"

namespace tdp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Gfn kBase(0x100);
constexpr uint64_t kFrames = 1024;

class NotesWritesTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::shared_ptr<Memslot>> memslot =
        Memslot::Create({.name = "ram",
                         .range = {kBase, kBase + kFrames},
                         .base_pfn = Pfn(kBase.value()),
                         .notes_writes = true});
    ASSERT_TRUE(memslot.ok()) << memslot.status();
    memslot_ = *std::move(memslot);
    ASSERT_TRUE(memslot_->dirty_log().AddConsumer({}, false).ok());
    memslot_->dirty_log().set_mode(DirtyLog::Mode::kHarvests);
    EXPECT_FALSE(memslot_->write_protects());
  }

  static GfnRange Run(uint64_t first, uint64_t count) {
    return {kBase + first, kBase + first + count};
  }
  void LoadAndMap(GfnRange run) {
    ASSERT_TRUE(memslot_->LoadContent(run).ok());
    ASSERT_EQ(memslot_->Map(run, HostProtection::kReadWrite).error, 0);
  }
  void Write(uint64_t frame) {
    *WindowByte(*memslot_, GpaOf(kBase + frame)) = 'x';
  }
  // Both: frames, counted from the start, that were written.
  std::vector<uint64_t> Take() {
    std::vector<uint64_t> words(kFrames / 64);
    EXPECT_TRUE(memslot_->TakeWritten(absl::MakeSpan(words)).ok());
    return FramesOf(words);
  }
  std::vector<uint64_t> Marked() {
    std::vector<uint64_t> words(kFrames / 64);
    EXPECT_EQ(
        memslot_->dirty_log().Read({}, kBase, kBase, absl::MakeSpan(words)),
        DirtyLog::Answer::kDone);
    return FramesOf(words);
  }
  static std::vector<uint64_t> FramesOf(const std::vector<uint64_t>& words) {
    std::vector<uint64_t> frames;
    for (uint64_t i = 0; i < kFrames; ++i) {
      if ((words[i / 64] >> i % 64 & 1) != 0) frames.push_back(i);
    }
    return frames;
  }

  std::shared_ptr<Memslot> memslot_;
};

TEST_F(NotesWritesTest, AWriteNeedsNoFaultAndIsTakenOnce) {
  LoadAndMap(Run(0, kFrames));
  EXPECT_THAT(Take(), IsEmpty()) << "mapped is not written";
  Write(0);
  Write(513);
  Write(kFrames - 1);
  EXPECT_EQ(*WindowByte(*memslot_, GpaOf(kBase + 5)), 0);
  FaultEvent event;
  EXPECT_EQ(*memslot_->ReadFaults(absl::MakeSpan(&event, 1)), 0u);
  EXPECT_THAT(Take(), ElementsAre(0, 513, kFrames - 1));
  EXPECT_THAT(Take(), IsEmpty());
  Write(513);
  EXPECT_THAT(Take(), ElementsAre(513));
}

TEST_F(NotesWritesTest, MoreRunsThanOneScanReports) {
  LoadAndMap(Run(0, kFrames));
  std::vector<uint64_t> expected;
  for (uint64_t frame = 0; frame < kFrames; frame += 2) {
    Write(frame);
    expected.push_back(frame);
  }
  EXPECT_EQ(Take(), expected);
}

TEST_F(NotesWritesTest, WhatIsUnmappedIsMarkedBecauseItsNoteIsLost) {
  LoadAndMap(Run(0, 8));
  Write(2);
  ASSERT_EQ(memslot_->Unmap(Run(2, 2)).error, 0);
  EXPECT_THAT(Marked(), ElementsAre(2, 3));
  EXPECT_THAT(Take(), IsEmpty());
  LoadAndMap(Run(2, 2));
  EXPECT_THAT(Take(), IsEmpty()) << "mapped again is not written";
  Write(3);
  EXPECT_THAT(Take(), ElementsAre(3));
}

TEST_F(NotesWritesTest, EveryMappedFrameCountsAsWritable) {
  LoadAndMap(Run(0, 2));
  Write(1);
  std::vector<HostFrame> frames(3);
  ASSERT_TRUE(memslot_->Inspect(Run(0, 3), absl::MakeSpan(frames)).ok());
  EXPECT_TRUE(frames[0].writable) << "its first write only waits to be noted";
  EXPECT_TRUE(frames[1].writable);
  EXPECT_FALSE(frames[2].writable);
}

TEST_F(NotesWritesTest, ALogThatIsOffCostsNothing) {
  memslot_->dirty_log().set_mode(DirtyLog::Mode::kOff);
  LoadAndMap(Run(0, 4));
  Write(1);
  ASSERT_EQ(memslot_->Unmap(Run(0, 2)).error, 0);
  EXPECT_THAT(Marked(), IsEmpty());
}

}  // namespace
}  // namespace tdp
