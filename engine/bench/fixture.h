// What rows share: page tables over a memslot without a host, keys, a second
// thread.
//
// Thread safety: belongs to the main thread, except what SecondThread runs.

#ifndef ENGINE_BENCH_FIXTURE_H_
#define ENGINE_BENCH_FIXTURE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "engine/bench/harness.h"
#include "engine/bench/null_backing.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp::bench {

inline constexpr uint64_t kGiBFrames = uint64_t{1} << (30 - kPageShift);

// 16 GiB; less for --quick.
uint64_t GuestFrames(const Options& options);
// The frames of one batch: 1 GiB; less for --quick.
uint64_t BatchFrames(const Options& options);

// Page tables over one memslot [0, frames).
class NullVm {
 public:
  explicit NullVm(uint64_t frames, PageLevel max_fault_level = PageLevel::k4K);
  ~NullVm();
  NullVm(const NullVm&) = delete;
  NullVm& operator=(const NullVm&) = delete;

  TdpMmu& mmu() { return *mmu_; }
  RcuDomain& rcu() { return rcu_; }
  uint64_t frames() const { return frames_; }

  void Map(uint64_t first, uint64_t count,
           PageLevel max_level = PageLevel::k4K);
  void MapAll(PageLevel max_level = PageLevel::k4K) {
    Map(0, frames_, max_level);
  }
  void Zap(uint64_t first, uint64_t count);
  // What pages most of the tables have; an array to compare them with gets the
  // same. REQUIRES: all frames were mapped.
  bool TablesInHugePages();

 private:
  const uint64_t frames_;
  RcuDomain rcu_;
  NullBackingTable backings_;
  std::unique_ptr<TdpMmu> mmu_;
};

// All frames [0, count), in an order that the seed decides.
std::vector<uint64_t> ShuffledFrames(uint64_t count, uint64_t seed);
// The keys of a slice: `count` of `keys`, starting anew at their end.
// REQUIRES: count divides keys.size().
absl::Span<const uint64_t> Slice(const std::vector<uint64_t>& keys,
                                 int64_t slice, uint64_t count);

// A thread on the second CPU that is ready before it is needed. It waits
// spinning: a wake-up would cost more than what is measured.
class SecondThread {
 public:
  SecondThread();
  ~SecondThread();
  SecondThread(const SecondThread&) = delete;
  SecondThread& operator=(const SecondThread&) = delete;

  // Starts `work` there, and returns when it is about to run.
  void Start(std::function<void()> work);
  // Waits until it has ended.
  void Join();
  // For work that runs until it is told to stop.
  bool stopping() const { return stop_.load(std::memory_order_relaxed); }
  void StopAndJoin() {
    stop_.store(true, std::memory_order_relaxed);
    Join();
    stop_.store(false, std::memory_order_relaxed);
  }

 private:
  enum class State { kIdle, kReady, kRunning, kExit };
  void Run();

  std::atomic<State> state_{State::kIdle};
  std::atomic<bool> stop_{false};
  std::function<void()> work_;
  std::thread thread_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_FIXTURE_H_
