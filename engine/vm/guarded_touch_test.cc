#include "engine/vm/guarded_touch.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "engine/base/types.h"

namespace tdp {
namespace {

// A handler that the process has before ours.
std::atomic<int> g_earlier_calls{0};
volatile uint8_t* g_page_to_open = nullptr;

void EarlierHandler(int, siginfo_t*, void*) {
  g_earlier_calls.fetch_add(1);
  mprotect(const_cast<uint8_t*>(g_page_to_open), kPageSize,
           PROT_READ | PROT_WRITE);
}

class GuardedTouchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(InstallGuardedTouch().ok());
    void* memory = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    page_ = static_cast<uint8_t*>(memory);
  }
  void TearDown() override { munmap(page_, kPageSize); }
  void Protect(int protection) {
    ASSERT_EQ(mprotect(page_, kPageSize, protection), 0);
  }

  uint8_t* page_ = nullptr;
};

TEST_F(GuardedTouchTest, AllowedTouchesAreMade) {
  EXPECT_TRUE(GuardedWrite(page_ + 5, 0xab));
  EXPECT_EQ(page_[5], 0xab);
  EXPECT_TRUE(GuardedRead(page_ + 5));
}

TEST_F(GuardedTouchTest, RefusedTouchesReturnFalse) {
  page_[0] = 1;
  Protect(PROT_NONE);
  EXPECT_FALSE(GuardedRead(page_));
  EXPECT_FALSE(GuardedWrite(page_, 2));
  Protect(PROT_READ);
  EXPECT_TRUE(GuardedRead(page_));
  EXPECT_FALSE(GuardedWrite(page_, 2));
  EXPECT_EQ(page_[0], 1);
}

TEST_F(GuardedTouchTest, PagesBeyondAFileReturnFalse) {
  const int fd = memfd_create("guarded_touch_test", MFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  void* memory =
      mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(memory, MAP_FAILED);
  EXPECT_FALSE(GuardedRead(static_cast<uint8_t*>(memory)));
  EXPECT_FALSE(GuardedWrite(static_cast<uint8_t*>(memory), 1));
  munmap(memory, kPageSize);
  close(fd);
}

TEST_F(GuardedTouchTest, RefusalsMayComeOneAfterAnother) {
  Protect(PROT_NONE);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(GuardedRead(page_));
}

TEST_F(GuardedTouchTest, ThreadsAreRefusedIndependently) {
  // Half of the threads touch a page that never is accessible, half one that
  // always is, while the handler runs all the time.
  std::vector<uint8_t> open_page(kPageSize);
  Protect(PROT_NONE);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, refused = t % 2 == 0, t] {
      for (int i = 0; i < 2000; ++i) {
        uint8_t* address = refused ? page_ : &open_page[t];
        if (GuardedWrite(address, 1) == refused) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(GuardedTouchTest, InstallingTwiceKeepsTheFirst) {
  ASSERT_TRUE(InstallGuardedTouch().ok());
  Protect(PROT_NONE);
  EXPECT_FALSE(GuardedRead(page_));
}

using GuardedTouchDeathTest = GuardedTouchTest;

TEST_F(GuardedTouchDeathTest, OtherFaultsStillEndTheProcess) {
  Protect(PROT_NONE);
  EXPECT_DEATH({ *const_cast<volatile uint8_t*>(page_) = 1; }, "");
}

TEST_F(GuardedTouchDeathTest, SentSignalsStillEndTheProcess) {
  EXPECT_DEATH(kill(getpid(), SIGBUS), "");
}

TEST(EarlierHandlerDeathTest, OtherFaultsGoToTheHandlerThatWasThereBefore) {
  // The child is a process that runs this test only, so that the other handler
  // is there first.
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto child = [] {
    struct sigaction action = {};
    action.sa_sigaction = EarlierHandler;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
    if (!InstallGuardedTouch().ok()) _exit(2);
    void* memory =
        mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_page_to_open = static_cast<uint8_t*>(memory);
    if (GuardedRead(g_page_to_open)) _exit(3);
    if (g_earlier_calls.load() != 0) _exit(4);
    *g_page_to_open = 1;
    _exit(g_earlier_calls.load() == 1 && *g_page_to_open == 1 ? 0 : 1);
  };
  EXPECT_EXIT(child(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tdp
