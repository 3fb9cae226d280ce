// Interleaver: runs two to four threads of a test one at a time, and decides at
// each atomic step of the engine (engine/base/test_hooks.h) which of them goes
// on. The same schedule gives the same execution, step for step.
//
// A thread that waits (for a lock, an owner, readers, a wake-up) lets others
// run until what it waits for may have come. If nobody can go on, or the
// execution takes too many steps, the process ends: the schedule is printed
// first, and so it is if an assertion or a check of the engine fails.
//
// Thread safety: an Interleaver belongs to one thread. What it runs may use
// Look(), SleepUntil() and Unobserved.
//
// Invariants: exactly one thread runs at any time, and it hands over by a mutex
// only, so what the threads of a test share needs no lock of its own.

#ifndef ENGINE_TESTING_INTERLEAVING_H_
#define ENGINE_TESTING_INTERLEAVING_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/test_hooks.h"
#include "engine/testing/rcu_model.h"
#include "engine/testing/schedule.h"

namespace tdp::testing {

struct InterleaverOptions {
  // Steps at an entry of a table are decisions up to this index, so that a scan
  // of an empty table is not 512 of them.
  int max_entry_index = 4;
  // Steps of one execution; more are a livelock.
  uint32_t max_steps = 200'000;
  // Random schedules also lose compare-exchanges, yield and retry.
  bool disturb = true;
};

class Interleaver final : public TestHooks {
 public:
  // Names the execution in what is printed when the process ends.
  explicit Interleaver(std::string name, InterleaverOptions options = {});
  ~Interleaver() override;
  Interleaver(const Interleaver&) = delete;
  Interleaver& operator=(const Interleaver&) = delete;

  // Begins an execution. From here until End() the hooks are installed; the
  // caller's own steps are not scheduled.
  void Begin(const Schedule& schedule);
  // Runs the threads to their ends.
  void Run(const std::vector<std::function<void()>>& bodies);
  void End();

  // What was decided: for each decision, the thread that ran and the others
  // that could have.
  struct Decision {
    int running;  // -1: it could not go on
    int chosen;
    uint8_t others;  // bit i: thread i could have been chosen
  };
  const std::vector<Decision>& decisions() const { return decisions_; }
  // One line for each step. Tables are numbered as they were met.
  std::string TraceText() const;

  // For threads that run: a vCPU looks at what the host maps.
  void Look() { BeforeStep(TestStep::kLook, nullptr); }
  // Sleeps until `awake()`, which only reads.
  void SleepUntil(const std::function<bool()>& awake);
  // A random choice that replays; `n` possible values. Always 0 in schedules
  // without a seed.
  uint64_t Choose(uint64_t n);
  bool IsRandom() const { return schedule_.seed.has_value(); }

  // While one lives, the steps of this thread are the test's own.
  class Unobserved {
   public:
    Unobserved();
    ~Unobserved();
    Unobserved(const Unobserved&) = delete;
    Unobserved& operator=(const Unobserved&) = delete;
  };

  // TestHooks.
  void BeforeStep(TestStep step, const void* where) override;
  bool LosesRace(const void* entry) override;
  void OnReclaimedEntry(const void* entry) override;
  bool ForcesYield() override;
  bool ForcesRetry() override;
  bool IsScheduled() override;
  void LetOthersRun(TestStep wait) override;
  bool TakesRetired(void* node, void (*reclaim)(void*)) override;
  void AfterReadSection() override;
  bool WaitsForReaders() override;

 private:
  static constexpr int kMaxBodies = RcuModel::kMaxThreads - 1;
  static constexpr int kOutside = kMaxBodies;  // the caller's RCU reader

  struct Worker {
    std::thread thread;
    std::condition_variable turn;
    const std::function<void()>* body = nullptr;
    bool finished = true;
    bool waiting = false;
    uint64_t steps = 0;        // of progress_
    uint64_t others_seen = 0;  // steps of others when it last went on
    int lonely_waits = 0;      // timed ones in which nobody took a step
    const std::function<bool()>* awake = nullptr;
    TestStep last_step = TestStep::kLook;
    // Of the present read section: it was at entries; one was a decision.
    bool at_entries = false;
    bool at_decisions = false;
    int64_t priority = 0;
  };
  struct TraceStep {
    int thread;
    TestStep step;
    const void* where;
  };

  void WorkerLoop(int id);
  bool CanRun(int id) const;
  uint64_t StepsOfOthers(int id) const {
    return progress_ - workers_[id]->steps;
  }
  bool IsDecision(Worker& worker, TestStep step, const void* where) const;
  // Chooses who goes on. `running` is -1 if the caller cannot.
  int Decide(int caller, bool caller_can_run);
  int ChooseAtRandom(int caller, bool caller_can_run, uint8_t able);
  // Hands over to `next` and returns when it is the caller's turn again.
  void SwitchTo(int caller, int next);
  void Wait(int caller, TestStep step, const std::function<bool()>* awake);
  bool Disturbs(uint64_t one_in);
  [[noreturn]] void Fail(const char* what) const;

  const std::string name_;
  const InterleaverOptions options_;

  // Handover.
  std::mutex mutex_;
  std::condition_variable all_finished_;
  int turn_ = -1;
  bool stop_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  int body_count_ = 0;

  // One execution.
  Schedule schedule_;
  std::mt19937_64 random_;
  bool disturb_ = false;
  bool all_entries_ = false;
  bool by_priority_ = false;
  uint64_t switch_one_in_ = 2;
  std::vector<uint64_t> priority_changes_;
  int64_t lowest_priority_ = 0;
  size_t next_switch_ = 0;
  uint64_t progress_ = 0;
  uint64_t scheduled_steps_ = 0;
  std::vector<Decision> decisions_;
  std::vector<TraceStep> trace_;
  RcuModel rcu_;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_INTERLEAVING_H_
