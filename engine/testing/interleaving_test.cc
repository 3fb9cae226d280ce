#include "engine/testing/interleaving.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "engine/testing/interleaving_fixture.h"
#include "engine/testing/rcu_model.h"

namespace tdp::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ScheduleTest, IsReadFromWhatItPrints) {
  for (const char* text : {"seed:7", "switch:", "switch:12:1", "switch:0:1,9:0",
                           "seed:18446744073709551615"}) {
    const std::optional<Schedule> schedule = Schedule::Parse(text);
    ASSERT_TRUE(schedule.has_value()) << text;
    EXPECT_EQ(schedule->ToString(), text);
  }
}

TEST(ScheduleTest, RefusesWhatIsNoSchedule) {
  for (const char* text : {"", "7", "seed:", "seed:x", "switch:1", "switch:1:",
                           "switch:1:0,", "switch:1:0:2", "swap:1:0"}) {
    EXPECT_FALSE(Schedule::Parse(text).has_value()) << text;
  }
}

class InterleaverTest : public ::testing::Test {
 protected:
  // A counter that is read in one step and written in another.
  int Race(Interleaver& scheduler, const Schedule& schedule) {
    int counter = 0;
    const auto add = [&] {
      scheduler.Look();
      const int seen = counter;
      scheduler.Look();
      counter = seen + 1;
    };
    scheduler.Begin(schedule);
    scheduler.Run({add, add});
    scheduler.End();
    return counter;
  }
};

TEST_F(InterleaverTest, WithoutSwitchesThreadsRunOneAfterTheOther) {
  Interleaver scheduler("test");
  EXPECT_EQ(Race(scheduler, {}), 2);
  EXPECT_EQ(scheduler.TraceText(), "0 look\n0 look\n1 look\n1 look\n");
}

TEST_F(InterleaverTest, ASwitchBetweenReadAndWriteLosesAnUpdate) {
  Interleaver scheduler("test");
  // Decision 0 is who begins, 1 the first look, 2 the second.
  EXPECT_EQ(Race(scheduler, *Schedule::Parse("switch:2:1")), 1);
  EXPECT_EQ(scheduler.TraceText(), "0 look\n1 look\n1 look\n0 look\n");
}

TEST_F(InterleaverTest, SeedsFindBothOutcomesAndReplayThem) {
  Interleaver scheduler("test");
  std::set<int> outcomes;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const int outcome = Race(scheduler, {.seed = seed});
    const std::string trace = scheduler.TraceText();
    EXPECT_EQ(Race(scheduler, {.seed = seed}), outcome) << seed;
    EXPECT_EQ(scheduler.TraceText(), trace) << seed;
    outcomes.insert(outcome);
  }
  EXPECT_THAT(outcomes, ElementsAre(1, 2));
}

TEST_F(InterleaverTest, ASleeperGoesOnWhenItIsWoken) {
  Interleaver scheduler("test");
  bool woken = false;
  scheduler.Begin({});
  scheduler.Run({[&] { scheduler.SleepUntil([&] { return woken; }); },
                 [&] {
                   scheduler.Look();
                   woken = true;
                 }});
  scheduler.End();
  EXPECT_EQ(scheduler.TraceText(), "0 sleep\n1 look\n");
}

class InterleaverDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  }
};

TEST_F(InterleaverDeathTest, ASleeperThatNobodyWakesEndsTheProcess) {
  EXPECT_DEATH(
      {
        Interleaver scheduler("Its.Name");
        scheduler.Begin(*Schedule::Parse("seed:77"));
        scheduler.Run({[&] { scheduler.SleepUntil([] { return false; }); },
                       [&] { scheduler.Look(); }});
      },
      "nobody can go on[^$]*waits: sleep[^$]*"
      "TDPD_SCHEDULE=seed:77 --gtest_filter=Its.Name");
}

TEST_F(InterleaverDeathTest, ThreadsThatWaitForEachOtherEndTheProcess) {
  EXPECT_DEATH(
      {
        Interleaver scheduler("test");
        scheduler.Begin({});
        const auto wait = [&] {
          for (;;) scheduler.LetOthersRun(TestStep::kWaitForOwner);
        };
        scheduler.Run({wait, wait});
      },
      "nobody can go on");
}

TEST_F(InterleaverDeathTest, ALoopWithoutEndEndsTheProcess) {
  EXPECT_DEATH(
      {
        Interleaver scheduler("test", {.max_steps = 1000});
        scheduler.Begin({});
        const auto spin = [&] {
          for (;;) scheduler.Look();
        };
        scheduler.Run({spin, spin});
      },
      "a livelock");
}

TEST_F(InterleaverDeathTest, AnEntryOutsideOfAReadSectionEndsTheProcess) {
  EXPECT_DEATH(
      {
        Interleaver scheduler("test");
        scheduler.Begin({});
        const uint64_t entry = 0;
        scheduler.Run(
            {[&] { scheduler.BeforeStep(TestStep::kReadEntry, &entry); }});
      },
      "outside of an RCU read section");
}

TEST(RcuModelTest, ReclaimsWhenTheLastReaderFromBeforeHasLeft) {
  RcuModel rcu;
  std::vector<int> reclaimed;
  struct Node {
    std::vector<int>* log;
    int id;
  };
  const auto reclaim = [](void* node) {
    auto* one = static_cast<Node*>(node);
    one->log->push_back(one->id);
  };
  Node first = {&reclaimed, 1};
  Node second = {&reclaimed, 2};
  rcu.BeginSection(0);
  rcu.Retire(&first, reclaim);
  rcu.BeginSection(1);
  rcu.BeginSection(1);
  rcu.Retire(&second, reclaim);
  rcu.EndSection(1);
  EXPECT_THAT(reclaimed, ElementsAre());
  rcu.EndSection(0);
  EXPECT_THAT(reclaimed, ElementsAre(1)) << "came after it was retired";
  rcu.EndSection(1);
  EXPECT_THAT(reclaimed, ElementsAre(1, 2));
  EXPECT_EQ(rcu.retired(), rcu.reclaimed());
}

TEST(RcuModelTest, ALazyOneReclaimsWhenItIsAsked) {
  RcuModel rcu;
  rcu.set_lazy(true);
  int reclaimed = 0;
  rcu.Retire(&reclaimed, [](void* node) { ++*static_cast<int*>(node); });
  rcu.BeginSection(0);
  rcu.EndSection(0);
  EXPECT_EQ(reclaimed, 0);
  rcu.ReclaimRipe();
  EXPECT_EQ(reclaimed, 1);
}

// The whole engine below: the same schedule, the same steps.
TEST(InterleaverReplayTest, ASeedReplaysAnExecutionOfTheEngineStepForStep) {
  if (!test_hooks::kEnabled) GTEST_SKIP() << "needs --config=hooks";
  Interleaver scheduler("test");
  std::set<std::string> traces;
  for (const char* text : {"seed:1", "seed:2", "seed:3", "switch:9:1"}) {
    std::string first;
    for (int turn = 0; turn < 2; ++turn) {
      scheduler.Begin(*Schedule::Parse(text));
      {
        MmuWorld world(scheduler);
        world.AddSlot(0, MmuWorld::kBlock);
        world.StartScheduled(/*fail_one_in=*/3);
        scheduler.Run({[&] { world.Touch(1, true); },
                       [&] { (void)world.Zap(0, 4); },
                       [&] { (void)world.Map(0, MmuWorld::kBlock); }});
        world.Finish();
      }
      scheduler.End();
      const std::string trace = scheduler.TraceText();
      EXPECT_THAT(trace, HasSubstr("compare-exchange"));
      if (turn == 0) first = trace;
      EXPECT_EQ(trace, first) << text;
    }
    traces.insert(first);
  }
  EXPECT_EQ(traces.size(), 4u);
}

}  // namespace
}  // namespace tdp::testing
