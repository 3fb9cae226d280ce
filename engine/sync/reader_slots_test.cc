#include "engine/sync/reader_slots.h"

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <tuple>

#include "engine/sync/tsan_annotations.h"
#include "gtest/gtest.h"

namespace tdp::sync_internal {
namespace {

// How the reader is known to be inside.
enum class Presence { kEntry, kCounted };

// The two races of the header's proof, tried again and again: one thread enters
// and leaves while another closes. The parameters are the four ways in.
class ReaderSlotsRaceTest
    : public testing::TestWithParam<std::tuple<bool, Presence>> {
 protected:
  // ThreadSanitizer is slow, and looks for other things than reordering.
#ifdef TDP_TSAN
  static constexpr int kRounds = 1000;
#else
  static constexpr int kRounds = 30000;
#endif

  ReaderSlotsRaceTest() { RefuseMembarrierForTest(std::get<0>(GetParam())); }
  ~ReaderSlotsRaceTest() override { RefuseMembarrierForTest(false); }

  // Both threads leave Meet() at about the same time.
  void Meet(int round) {
    arrived_.fetch_add(1);
    while (arrived_.load() < 2 * (round + 1)) MaybeYield();
  }
  // Where the machine is busy, spinning alone would wait for a time slice.
  void MaybeYield() {
    thread_local int looks = 0;
    if (++looks % 1000 == 0) std::this_thread::yield();
  }
  static void Spin(int turns) {
    for (int i = 0; i < turns; ++i)
      std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  // This thread's slot has no free entry from now on, if so asked.
  void FillSlot() {
    if (std::get<1>(GetParam()) == Presence::kEntry) return;
    for (ReaderPresence& other : others_) EXPECT_TRUE(other.TryEnter(open_));
  }
  void EmptySlot() {
    if (std::get<1>(GetParam()) == Presence::kEntry) return;
    for (ReaderPresence& other : others_) other.Leave();
  }

  std::atomic<uint32_t> open_{0};
  std::atomic<uint32_t> gate_{0};
  ReaderPresence presence_;
  ReaderPresence others_[kEntriesPerSlot];
  std::atomic<int> arrived_{0};
  // Written by both threads right before they race: the next store of each
  // waits behind this one, which makes the reordering in question likely.
  alignas(kLineBytes) std::atomic<int> contended_{0};
  alignas(kLineBytes) std::atomic<int> closed_round_{-1};
};

INSTANTIATE_TEST_SUITE_P(
    Ways, ReaderSlotsRaceTest,
    testing::Combine(testing::Bool(),
                     testing::Values(Presence::kEntry, Presence::kCounted)),
    [](const testing::TestParamInfo<std::tuple<bool, Presence>>& test)
        -> std::string {
      return std::string(std::get<0>(test.param) ? "Refused" : "Allowed") +
             (std::get<1>(test.param) == Presence::kEntry ? "Entry"
                                                          : "Counted");
    });

// Reader: write entry, read gate. Closer: write gate, read entries. If both
// missed the other's write, the closer returns while the reader is inside.
TEST_P(ReaderSlotsRaceTest, CloserAndReaderDoNotMissEachOther) {
  int overlaps = 0;
  std::thread reader([&] {
    FillSlot();
    std::minstd_rand random(1);
    for (int round = 0; round < kRounds; ++round) {
      const int delay = static_cast<int>(random() % 100);
      Meet(2 * round);
      Spin(delay);
      contended_.store(round, std::memory_order_relaxed);
      if (presence_.TryEnter(gate_)) {
        for (int i = 0; i < 300; ++i) {
          if (closed_round_.load(std::memory_order_relaxed) == round) {
            ++overlaps;
            break;
          }
        }
        presence_.Leave();
      }
      Meet(2 * round + 1);
    }
    EmptySlot();
  });
  std::minstd_rand random(2);
  for (int round = 0; round < kRounds; ++round) {
    const int delay = static_cast<int>(random() % 100);
    Meet(2 * round);
    contended_.store(-round, std::memory_order_relaxed);
    Spin(delay);
    gate_.store(1, std::memory_order_seq_cst);
    presence_.Drain();
    closed_round_.store(round, std::memory_order_relaxed);
    // The reader has left, or was refused, when it comes here.
    Meet(2 * round + 1);
    gate_.store(0, std::memory_order_seq_cst);
  }
  reader.join();
  EXPECT_EQ(overlaps, 0);
}

// Reader: clear entry, read waiters. Closer: raise waiters, read entries. If
// both missed the other's write, the closer sleeps for ever.
TEST_P(ReaderSlotsRaceTest, LeavingReaderAndSleepyCloserDoNotMissEachOther) {
  std::thread reader([&] {
    FillSlot();
    std::minstd_rand random(1);
    for (int round = 0; round < kRounds; ++round) {
      const int delay = static_cast<int>(random() % 4000);
      EXPECT_TRUE(presence_.TryEnter(gate_));
      Meet(2 * round);
      Spin(delay);
      contended_.store(round, std::memory_order_relaxed);
      presence_.Leave();
      Meet(2 * round + 1);
    }
    EmptySlot();
  });
  for (int round = 0; round < kRounds; ++round) {
    Meet(2 * round);
    contended_.store(-round, std::memory_order_relaxed);
    gate_.store(1, std::memory_order_seq_cst);
    presence_.Drain();
    gate_.store(0, std::memory_order_seq_cst);
    Meet(2 * round + 1);
  }
  reader.join();
}

}  // namespace
}  // namespace tdp::sync_internal
