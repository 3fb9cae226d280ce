#include "engine/vm/pager.h"

#include <future>
#include <string>
#include <utility>

#include "engine/memory/memory_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

class PagerTest : public testing::Test {
 protected:
  std::shared_ptr<Memslot> Make(bool with_source) {
    MemslotOptions options = {
        .name = "ram", .range = {Gfn(0), Gfn(4)}, .base_pfn = Pfn(0)};
    if (with_source) {
      dir_.Write("image", PatternFrames(4));
      absl::StatusOr<FileSource> source =
          FileSource::Open({.image_dir = dir_.path(), .path = "image"});
      EXPECT_TRUE(source.ok()) << source.status();
      options.source = *std::move(source);
    }
    absl::StatusOr<std::shared_ptr<Memslot>> memslot =
        Memslot::Create(std::move(options));
    EXPECT_TRUE(memslot.ok()) << memslot.status();
    return *std::move(memslot);
  }

  // Maps what was touched.
  static void Answer(const std::shared_ptr<Memslot>& memslot) {
    std::array<FaultEvent, 4> events;
    // A thread that touches sleeps until it is answered: no more than these.
    const auto count = memslot->ReadFaults(absl::MakeSpan(events));
    ASSERT_TRUE(count.ok());
    for (size_t i = 0; i < *count; ++i) {
      const GfnRange frame = {events[i].gfn, events[i].gfn + 1};
      EXPECT_TRUE(memslot->LoadContent(frame).ok());
      EXPECT_EQ(memslot->Map(frame, HostProtection::kReadWrite).error, 0);
      memslot->Wake(frame);
    }
  }

  TempDir dir_;
};

TEST_F(PagerTest, AFaultIsAnsweredWhileEveryLoaderWaitsForItsDisk) {
  constexpr int kTasks = 64;  // more than there are loaders
  const auto memslot = Make(/*with_source=*/true);
  auto pager = Pager::Start(2, Answer);
  ASSERT_TRUE(pager.ok()) << pager.status();
  ASSERT_TRUE((*pager)->Add(memslot).ok());
  std::promise<void> disk;
  std::shared_future<void> answered = disk.get_future().share();
  std::atomic<int> done{0};
  std::promise<void> all_done;
  for (int i = 0; i < kTasks; ++i) {
    (*pager)->RunInLoader(*memslot, static_cast<uint64_t>(i), [&, answered] {
      answered.wait();
      if (++done == kTasks) all_done.set_value();
    });
  }
  *WindowByte(*memslot, GpaOf(Gfn(2))) = 'x';
  EXPECT_EQ(done, 0);
  disk.set_value();
  all_done.get_future().wait();
  (*pager)->Remove(*memslot);
}

TEST_F(PagerTest, TasksThatHaveNotBegunAreDroppedWithThePager) {
  const auto memslot = Make(/*with_source=*/true);
  auto pager = Pager::Start(1, Answer);
  ASSERT_TRUE(pager.ok()) << pager.status();
  ASSERT_TRUE((*pager)->Add(memslot).ok());
  (*pager)->Remove(*memslot);
  std::atomic<int> begun{0};
  for (uint64_t i = 0; i < 1000; ++i) {
    (*pager)->RunInLoader(*memslot, i, [&] { ++begun; });
  }
  pager->reset();
  EXPECT_LE(begun, 1000);
  EXPECT_EQ(memslot.use_count(), 1);
}

TEST_F(PagerTest, WhoWaitsForOneFrameHoldsOneLoader) {
  constexpr int kTasks = 64;
  const auto memslot = Make(/*with_source=*/true);
  auto pager = Pager::Start(1, Answer);
  ASSERT_TRUE(pager.ok()) << pager.status();
  ASSERT_TRUE((*pager)->Add(memslot).ok());
  std::promise<void> disk;
  std::shared_future<void> answered = disk.get_future().share();
  std::atomic<int> running{0};
  std::atomic<int> done{0};
  std::promise<void> all_done;
  for (int i = 0; i < kTasks; ++i) {
    (*pager)->RunInLoader(*memslot, 0, [&, answered] {
      EXPECT_EQ(++running, 1);
      answered.wait();
      --running;
      if (++done == kTasks) all_done.set_value();
    });
  }
  std::promise<void> other;
  (*pager)->RunInLoader(*memslot, 1, [&] { other.set_value(); });
  other.get_future().wait();
  EXPECT_EQ(done, 0);
  disk.set_value();
  all_done.get_future().wait();
  (*pager)->Remove(*memslot);
}

TEST_F(PagerTest, AMemslotWithoutASourceNeedsNoLoader) {
  const auto memslot = Make(/*with_source=*/false);
  auto pager = Pager::Start(1, Answer);
  ASSERT_TRUE(pager.ok()) << pager.status();
  ASSERT_TRUE((*pager)->Add(memslot).ok());
  *WindowByte(*memslot, GpaOf(Gfn(1))) = 'x';
  EXPECT_EQ(*WindowByte(*memslot, GpaOf(Gfn(1))), 'x');
  (*pager)->Remove(*memslot);
}

}  // namespace
}  // namespace tdp
