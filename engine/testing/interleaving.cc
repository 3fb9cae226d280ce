#include "engine/testing/interleaving.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/types.h"

namespace tdp::testing {
namespace {

// The calling thread's place among those scheduled; -1 if it is not one.
thread_local int t_id = -1;
thread_local int t_unobserved = 0;

constexpr int kMaxLonelyWaits = 100;

// What to print when the process ends in the middle of an execution.
char g_banner[4096] = "";

void PrintBanner(int) {
  [[maybe_unused]] const ssize_t n =
      write(STDERR_FILENO, g_banner, std::strlen(g_banner));
}

const char* NameOf(TestStep step) {
  switch (step) {
    case TestStep::kReadEntry:
      return "read";
    case TestStep::kTryWriteEntry:
      return "compare-exchange";
    case TestStep::kWriteOwnedEntry:
      return "final value";
    case TestStep::kReaderLock:
      return "lock for reading";
    case TestStep::kReaderUnlock:
      return "unlock for reading";
    case TestStep::kWriterLock:
      return "lock for writing";
    case TestStep::kWriterUnlock:
      return "unlock for writing";
    case TestStep::kReadSectionBegin:
      return "read section begins";
    case TestStep::kReadSectionEnd:
      return "read section ends";
    case TestStep::kRetire:
      return "retire";
    case TestStep::kReadSequence:
      return "read sequence";
    case TestStep::kAdvanceSequence:
      return "advance sequence";
    case TestStep::kAllocateTable:
      return "allocate table";
    case TestStep::kHostCall:
      return "host call";
    case TestStep::kLook:
      return "look";
    case TestStep::kWaitForMutex:
      return "wait for mutex";
    case TestStep::kWaitForChange:
      return "wait for change";
    case TestStep::kWaitForReaders:
      return "wait for readers";
    case TestStep::kWaitForOwner:
      return "wait for owner";
    case TestStep::kSleep:
      return "sleep";
  }
  return "?";
}

bool IsAtEntry(TestStep step) {
  return step == TestStep::kReadEntry || step == TestStep::kTryWriteEntry ||
         step == TestStep::kWriteOwnedEntry;
}

uint64_t EntryIndex(const void* entry) {
  return reinterpret_cast<uint64_t>(entry) % kPageSize / sizeof(uint64_t);
}

// A handover between CPUs takes far longer than one on the same.
void StayOnOneCpu() {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof(one), &one);
}

}  // namespace

Interleaver::Interleaver(std::string name, InterleaverOptions options)
    : name_(std::move(name)), options_(options) {
  cpu_set_t before;
  CPU_ZERO(&before);
  sched_getaffinity(0, sizeof(before), &before);
  StayOnOneCpu();
  for (int i = 0; i < kMaxBodies; ++i) {
    workers_.push_back(std::make_unique<Worker>());
  }
  // They inherit the one CPU.
  for (int i = 0; i < kMaxBodies; ++i) {
    workers_[i]->thread = std::thread([this, i] { WorkerLoop(i); });
  }
  sched_setaffinity(0, sizeof(before), &before);
}

Interleaver::~Interleaver() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    for (auto& worker : workers_) worker->turn.notify_one();
  }
  for (auto& worker : workers_) worker->thread.join();
}

void Interleaver::Begin(const Schedule& schedule) {
  schedule_ = schedule;
  std::snprintf(g_banner, sizeof(g_banner),
                "\nInterleaver: %s failed; replay it with "
                "TDPD_SCHEDULE=%s --gtest_filter=%s\n",
                name_.c_str(), schedule.ToString().c_str(), name_.c_str());
  std::signal(SIGABRT, PrintBanner);
  next_switch_ = 0;
  progress_ = 0;
  scheduled_steps_ = 0;
  decisions_.clear();
  trace_.clear();
  rcu_ = RcuModel();
  disturb_ = false;
  all_entries_ = false;
  by_priority_ = false;
  priority_changes_.clear();
  lowest_priority_ = 0;
  if (schedule.seed.has_value()) {
    random_.seed(*schedule.seed);
    disturb_ = options_.disturb && random_() % 2 == 0;
    all_entries_ = random_() % 16 == 0;
    by_priority_ = random_() % 2 == 0;
    rcu_.set_lazy(random_() % 4 == 0);
    switch_one_in_ = uint64_t{2} << (2 * (random_() % 3));
    // Probabilistic concurrency testing (Burckhardt et al., 2010): random
    // priorities, and a few places where the highest becomes the lowest.
    const uint64_t length = uint64_t{8} << (random_() % 6);
    const uint64_t changes = 1 + random_() % 3;
    for (uint64_t i = 0; i < changes; ++i) {
      priority_changes_.push_back(random_() % length);
    }
  }
  test_hooks::Install(this);
}

void Interleaver::Run(const std::vector<std::function<void()>>& bodies) {
  TDP_CHECK(bodies.size() <= kMaxBodies, "few threads");
  body_count_ = static_cast<int>(bodies.size());
  for (int i = 0; i < body_count_; ++i) {
    Worker& worker = *workers_[i];
    worker.body = &bodies[i];
    worker.finished = false;
    worker.waiting = false;
    worker.awake = nullptr;
    worker.steps = 0;
    worker.others_seen = 0;
    worker.lonely_waits = 0;
    worker.priority = schedule_.seed.has_value()
                          ? static_cast<int64_t>(random_() % 1'000'000)
                          : 0;
  }
  const int first = Decide(-1, false);
  std::unique_lock lock(mutex_);
  turn_ = first;
  workers_[first]->turn.notify_one();
  all_finished_.wait(lock, [&] { return turn_ == -1; });
}

void Interleaver::End() {
  test_hooks::Install(nullptr);
  g_banner[0] = '\0';
}

void Interleaver::WorkerLoop(int id) {
  t_id = id;
  Worker& self = *workers_[id];
  std::unique_lock lock(mutex_);
  for (;;) {
    self.turn.wait(lock, [&] { return turn_ == id || stop_; });
    if (stop_) return;
    lock.unlock();
    (*self.body)();
    self.finished = true;
    ++progress_;
    bool all = true;
    for (int i = 0; i < body_count_; ++i) all &= workers_[i]->finished;
    const int next = all ? -1 : Decide(id, false);
    lock.lock();
    turn_ = next;
    if (all) {
      all_finished_.notify_one();
    } else {
      workers_[next]->turn.notify_one();
    }
  }
}

bool Interleaver::CanRun(int id) const {
  const Worker& worker = *workers_[id];
  if (worker.finished) return false;
  if (!worker.waiting) return true;
  if (worker.awake != nullptr) return (*worker.awake)();
  // What it waits for may have come since it looked.
  return StepsOfOthers(id) > worker.others_seen;
}

bool Interleaver::IsDecision(Worker& worker, TestStep step,
                             const void* where) const {
  if (IsAtEntry(step)) {
    const bool decides =
        all_entries_ ||
        EntryIndex(where) < static_cast<uint64_t>(options_.max_entry_index);
    worker.at_entries = true;
    worker.at_decisions |= decides;
    return decides;
  }
  if (step == TestStep::kReadSectionBegin) {
    worker.at_entries = false;
    worker.at_decisions = false;
  }
  if (step == TestStep::kReadSectionEnd) {
    return worker.at_decisions || !worker.at_entries;
  }
  // Nothing that others could see lies between these and the step before.
  return step != TestStep::kReadSectionBegin && step != TestStep::kRetire &&
         step != TestStep::kAllocateTable;
}

int Interleaver::Decide(int caller, bool caller_can_run) {
  uint8_t able = 0;
  for (int i = 0; i < body_count_; ++i) {
    if (i != caller && CanRun(i)) able |= static_cast<uint8_t>(1 << i);
  }
  if (able == 0) {
    if (caller_can_run || (caller >= 0 && CanRun(caller))) return caller;
    // Who waits for an owner looks again after a while. It may wait after it
    // found something else in its way, which is no longer there.
    if (caller >= 0 && !workers_[caller]->finished &&
        workers_[caller]->last_step == TestStep::kWaitForOwner &&
        ++workers_[caller]->lonely_waits < kMaxLonelyWaits) {
      return caller;
    }
    Fail("nobody can go on: a lost wake-up or a deadlock");
  }
  // One thread is able and the caller is not: there is nothing to choose.
  if (!caller_can_run && (able & (able - 1)) == 0) {
    return __builtin_ctz(able);
  }
  int chosen = caller;
  const auto decision = static_cast<uint32_t>(decisions_.size());
  if (schedule_.seed.has_value()) {
    chosen = ChooseAtRandom(caller, caller_can_run, able);
  } else {
    if (!caller_can_run) {
      // The next one, in a circle.
      do {
        chosen = (chosen + 1) % body_count_;
      } while ((able & (1 << chosen)) == 0);
    }
    if (next_switch_ < schedule_.switches.size() &&
        schedule_.switches[next_switch_].decision == decision) {
      chosen = schedule_.switches[next_switch_++].thread;
      TDP_CHECK(chosen == caller ? caller_can_run : (able >> chosen & 1) != 0,
                "the schedule belongs to this execution");
    }
  }
  uint8_t others = able;
  if (caller_can_run) others |= static_cast<uint8_t>(1 << caller);
  others &= static_cast<uint8_t>(~(1 << chosen));
  decisions_.push_back({caller_can_run ? caller : -1, chosen, others});
  return chosen;
}

int Interleaver::ChooseAtRandom(int caller, bool caller_can_run, uint8_t able) {
  if (caller_can_run) able |= static_cast<uint8_t>(1 << caller);
  if (by_priority_) {
    const uint64_t decision = decisions_.size();
    if (caller >= 0 && std::count(priority_changes_.begin(),
                                  priority_changes_.end(), decision) != 0) {
      workers_[caller]->priority = --lowest_priority_;
    }
    int best = -1;
    for (int i = 0; i < body_count_; ++i) {
      if ((able >> i & 1) == 0) continue;
      if (best < 0 || workers_[i]->priority > workers_[best]->priority) {
        best = i;
      }
    }
    return best;
  }
  if (caller_can_run && random_() % switch_one_in_ != 0) return caller;
  auto skip = static_cast<int>(random_() % __builtin_popcount(able));
  for (int i = 0;; ++i) {
    if ((able >> i & 1) != 0 && skip-- == 0) return i;
  }
}

void Interleaver::SwitchTo(int caller, int next) {
  if (next == caller) return;
  std::unique_lock lock(mutex_);
  turn_ = next;
  workers_[next]->turn.notify_one();
  workers_[caller]->turn.wait(lock, [&] { return turn_ == caller; });
}

void Interleaver::BeforeStep(TestStep step, const void* where) {
  if (t_unobserved != 0) return;
  const int id = t_id < 0 ? kOutside : t_id;
  if (t_id >= 0) {
    if (++scheduled_steps_ > options_.max_steps) {
      Fail("too many steps: a livelock");
    }
    if ((step == TestStep::kReadEntry || step == TestStep::kTryWriteEntry) &&
        !rcu_.InSection(id)) {
      Fail("an entry is accessed outside of an RCU read section");
    }
    workers_[id]->last_step = step;
    if (IsDecision(*workers_[id], step, where)) SwitchTo(id, Decide(id, true));
    ++progress_;
    ++workers_[id]->steps;
    trace_.push_back({id, step, where});
  }
  if (step == TestStep::kReadSectionBegin) rcu_.BeginSection(id);
}

void Interleaver::Wait(int caller, TestStep step,
                       const std::function<bool()>* awake) {
  Worker& self = *workers_[caller];
  if (++scheduled_steps_ > options_.max_steps) {
    Fail("too many steps: a livelock");
  }
  trace_.push_back({caller, step, nullptr});
  self.last_step = step;
  self.waiting = true;
  self.awake = awake;
  // Who waits lets the others go first.
  self.priority = --lowest_priority_;
  SwitchTo(caller, Decide(caller, false));
  self.waiting = false;
  self.awake = nullptr;
  const uint64_t others = StepsOfOthers(caller);
  if (others != self.others_seen) self.lonely_waits = 0;
  self.others_seen = others;
}

void Interleaver::LetOthersRun(TestStep wait) { Wait(t_id, wait, nullptr); }

void Interleaver::SleepUntil(const std::function<bool()>& awake) {
  if (!awake()) Wait(t_id, TestStep::kSleep, &awake);
}

bool Interleaver::IsScheduled() { return t_id >= 0 && t_unobserved == 0; }

uint64_t Interleaver::Choose(uint64_t n) {
  return IsRandom() ? random_() % n : 0;
}

bool Interleaver::Disturbs(uint64_t one_in) {
  if (!disturb_ || !IsScheduled() || random_() % one_in != 0) return false;
  // As if another thread had done something: no reason to wait for one.
  ++progress_;
  return true;
}
bool Interleaver::LosesRace(const void* entry) {
  // A scan of a whole table is to come to its end now and then.
  return EntryIndex(entry) < static_cast<uint64_t>(options_.max_entry_index) &&
         Disturbs(24);
}
bool Interleaver::ForcesYield() { return Disturbs(4); }
bool Interleaver::ForcesRetry() { return Disturbs(24); }

void Interleaver::OnReclaimedEntry(const void*) {
  Fail("an entry of a reclaimed table was reached");
}

bool Interleaver::TakesRetired(void* node, void (*reclaim)(void*)) {
  rcu_.Retire(node, reclaim);
  return true;
}

void Interleaver::AfterReadSection() {
  if (t_unobserved == 0) rcu_.EndSection(t_id < 0 ? kOutside : t_id);
}

bool Interleaver::WaitsForReaders() {
  if (rcu_.InSection(t_id < 0 ? kOutside : t_id)) {
    Fail("a reader waits for readers");
  }
  const uint64_t retired = rcu_.retired();
  const RcuModel::Sections open = rcu_.OpenSections();
  const std::function<bool()> over = [&] { return rcu_.IsRipe(open); };
  if (!over()) {
    if (!IsScheduled()) Fail("a read section was left open");
    Wait(t_id, TestStep::kWaitForReaders, &over);
  }
  rcu_.ReclaimRipe();
  TDP_CHECK(rcu_.reclaimed() >= retired, "what was retired is reclaimed");
  return true;
}

Interleaver::Unobserved::Unobserved() { ++t_unobserved; }
Interleaver::Unobserved::~Unobserved() { --t_unobserved; }

void Interleaver::Fail(const char* what) const {
  std::fprintf(stderr, "Interleaver: %s\n", what);
  for (int i = 0; i < body_count_; ++i) {
    const Worker& worker = *workers_[i];
    std::fprintf(stderr, "  thread %d: %s%s\n", i,
                 worker.finished  ? "has ended"
                 : worker.waiting ? "waits: "
                                  : "last step: ",
                 worker.finished ? "" : NameOf(worker.last_step));
  }
  constexpr size_t kLastSteps = 4000;
  const std::string text = TraceText();
  std::fprintf(
      stderr, "last steps:\n%s\n",
      text.substr(text.size() > kLastSteps ? text.size() - kLastSteps : 0)
          .c_str());
  std::abort();
}

std::string Interleaver::TraceText() const {
  std::map<uint64_t, int> tables;
  std::string text;
  for (const TraceStep& step : trace_) {
    absl::StrAppend(&text, step.thread, " ", NameOf(step.step));
    if (IsAtEntry(step.step)) {
      const uint64_t table = reinterpret_cast<uint64_t>(step.where) / kPageSize;
      const int number =
          tables.insert({table, static_cast<int>(tables.size())}).first->second;
      absl::StrAppend(&text, " ", number, "[", EntryIndex(step.where), "]");
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

}  // namespace tdp::testing
