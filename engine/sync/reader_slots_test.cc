#include "engine/sync/reader_slots.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <tuple>

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
  // As many rounds as fit into the time: on a busy machine a meeting of two
  // threads may take milliseconds.
  static constexpr int kMaxRounds = 30000;
  static constexpr std::chrono::milliseconds kMaxTime{400};

  ReaderSlotsRaceTest() {
    sched_getaffinity(0, sizeof(all_cpus_), &all_cpus_);
    RefuseMembarrierForTest(std::get<0>(GetParam()));
  }
  ~ReaderSlotsRaceTest() override {
    RefuseMembarrierForTest(false);
    sched_setaffinity(0, sizeof(all_cpus_), &all_cpus_);
  }

  // Puts this thread on the index-th processor, where there is one: on one
  // processor the two threads could not race.
  void RunOnProcessor(int index) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &all_cpus_) || index-- > 0) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      sched_setaffinity(0, sizeof(one), &one);
      return;
    }
  }

  // Starts a round for both threads at about the same time. False if there is
  // none any more.
  bool MeetForRound(int round) {
    if (round == kMaxRounds || std::chrono::steady_clock::now() > deadline_) {
      stop_ = true;
    }
    Meet(2 * round);
    return !stop_;
  }
  void MeetAfterRound(int round) { Meet(2 * round + 1); }

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
    for (int i = 0; i < turns; ++i) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
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

  cpu_set_t all_cpus_;
  std::atomic<uint32_t> open_{0};
  std::atomic<uint32_t> gate_{0};
  ReaderPresence presence_;
  ReaderPresence others_[kEntriesPerSlot];
  const std::chrono::steady_clock::time_point deadline_ =
      std::chrono::steady_clock::now() + kMaxTime;
  std::atomic<bool> stop_{false};
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
    RunOnProcessor(1);
    FillSlot();
    std::minstd_rand random(1);
    for (int round = 0;; ++round) {
      const int delay = static_cast<int>(random() % 100);
      if (!MeetForRound(round)) break;
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
      MeetAfterRound(round);
    }
    EmptySlot();
  });
  RunOnProcessor(0);
  std::minstd_rand random(2);
  for (int round = 0;; ++round) {
    const int delay = static_cast<int>(random() % 100);
    if (!MeetForRound(round)) break;
    contended_.store(-round, std::memory_order_relaxed);
    Spin(delay);
    gate_.store(1, std::memory_order_seq_cst);
    presence_.Drain();
    closed_round_.store(round, std::memory_order_relaxed);
    // The reader has left, or was refused, when it comes here.
    MeetAfterRound(round);
    gate_.store(0, std::memory_order_seq_cst);
  }
  reader.join();
  EXPECT_EQ(overlaps, 0);
}

// Reader: clear entry, read waiters. Closer: raise waiters, read entries. If
// both missed the other's write, the closer sleeps for ever.
TEST_P(ReaderSlotsRaceTest, LeavingReaderAndSleepyCloserDoNotMissEachOther) {
  std::thread reader([&] {
    RunOnProcessor(1);
    FillSlot();
    std::minstd_rand random(1);
    for (int round = 0;; ++round) {
      const int delay = static_cast<int>(random() % 16000);
      EXPECT_TRUE(presence_.TryEnter(gate_));
      if (!MeetForRound(round)) break;
      Spin(delay);
      contended_.store(round, std::memory_order_relaxed);
      presence_.Leave();
      MeetAfterRound(round);
    }
    presence_.Leave();
    EmptySlot();
  });
  RunOnProcessor(0);
  for (int round = 0;; ++round) {
    if (!MeetForRound(round)) break;
    contended_.store(-round, std::memory_order_relaxed);
    gate_.store(1, std::memory_order_seq_cst);
    presence_.Drain();
    gate_.store(0, std::memory_order_seq_cst);
    MeetAfterRound(round);
  }
  reader.join();
}

}  // namespace
}  // namespace tdp::sync_internal
