// InterleavingTest: verbs of a TdpMmu against each other, in every interleaving
// with a few preemptions and in many random ones.
//
// Each execution has a world of its own: memslots on a fake host and a TdpMmu.
// After it, the world checks what TdpMmuTest checks after a test: trees,
// counters and host agree, the one rule was kept, and a zap-all gives every
// table back. A vCPU that is never woken, a table reached after it was
// reclaimed, a deadlock and a livelock end the process (interleaving.h).
//
// To replay a failure: TDPD_SCHEDULE=seed:7 test --gtest_filter=Its.Name; the
// steps are printed. TDPD_MORE_SEEDS=20 runs 20 times as many random schedules.
//
// Thread safety: a world belongs to the threads of its execution, which take
// turns.

#ifndef ENGINE_TESTING_INTERLEAVING_FIXTURE_H_
#define ENGINE_TESTING_INTERLEAVING_FIXTURE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/testing/fake_vcpu.h"
#include "engine/testing/interleaving.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {

class MmuWorld : public TdpMmuTest {
 public:
  explicit MmuWorld(Interleaver& scheduler) : scheduler_(scheduler) {}

  using TdpMmuTest::AddSlot;
  using TdpMmuTest::AllowStricterHost;
  using TdpMmuTest::Audit;
  using TdpMmuTest::backings_;
  using TdpMmuTest::Entry;
  using TdpMmuTest::Fault;
  using TdpMmuTest::Frames;
  using TdpMmuTest::kBlock;
  using TdpMmuTest::Last;
  using TdpMmuTest::Leaves;
  using TdpMmuTest::Map;
  using TdpMmuTest::MapWritable;
  using TdpMmuTest::mmu;
  using TdpMmuTest::rcu_;
  using TdpMmuTest::Zap;
  using TdpMmuTest::ZapAll;

  // As TdpMmuTest::Start(), and host calls become steps, one in `fail_one_in`
  // of which fails in random schedules (0: none).
  void StartScheduled(uint64_t fail_one_in = 0);
  // The checks at the end. The world is of no use afterwards.
  void Finish() { TearDown(); }

  // Touches a frame as a vCPU: it sleeps until it is woken.
  TouchResult Touch(uint64_t gfn, bool write);
  // Touches it until the host grants the access.
  void TouchForSure(uint64_t gfn, bool write) {
    EXPECT_EQ(Touch(gfn, write), TouchResult::kDone) << gfn;
  }

  Interleaver& scheduler() { return scheduler_; }
  // For cases that note what happened first.
  int note = 0;

 private:
  void TestBody() override {}

  Interleaver& scheduler_;
};

using MmuVerb = std::function<void(MmuWorld&)>;

struct InterleavedCase {
  // Adds memslots and calls StartScheduled(); may map. Runs alone.
  MmuVerb prepare;
  std::vector<MmuVerb> threads;
  // Looks at the result, before the world's own checks.
  MmuVerb check = [](MmuWorld&) {};
  // Every interleaving is run in which a thread is taken off at most so often,
  // and, where a thread ends or waits, another than the next goes on at most
  // twice.
  int preemptions = 2;
  int random_schedules = 1000;
  InterleaverOptions options = {};
};

class InterleavingTest : public ::testing::Test {
 protected:
  void SetUp() override;

  void Explore(const InterleavedCase& test_case);

  // Verbs, as threads of a case.
  static MmuVerb Maps(uint64_t start, uint64_t end, MapOptions options = {});
  static MmuVerb Zaps(uint64_t start, uint64_t end);
  static MmuVerb Touches(uint64_t gfn, bool write);
  static MmuVerb ZapsAll();
  static MmuVerb Walks(uint64_t start, uint64_t end);
  static MmuVerb Audits();
  static MmuVerb Sequence(std::vector<MmuVerb> verbs);

 private:
  // Returns false after a failure.
  bool RunOnce(Interleaver& scheduler, const Schedule& schedule,
               const InterleavedCase& test_case);
  int64_t RunAll(Interleaver& scheduler, const InterleavedCase& test_case);
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_INTERLEAVING_FIXTURE_H_
