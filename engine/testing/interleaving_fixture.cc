#include "engine/testing/interleaving_fixture.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tdp::testing {
namespace {

constexpr int kMaxChoices = 2;
constexpr std::array kHostErrors = {ENOMEM, EAGAIN, EFAULT, EINVAL, EPERM};

std::string CurrentTestName() {
  const ::testing::TestInfo* info =
      ::testing::UnitTest::GetInstance()->current_test_info();
  return absl::StrCat(info->test_suite_name(), ".", info->name());
}

int SeedFactor() {
  const char* text = std::getenv("TDPD_MORE_SEEDS");
  int factor = 1;
  if (text == nullptr || !absl::SimpleAtoi(text, &factor)) return 1;
  return factor;
}

}  // namespace

void MmuWorld::StartScheduled(uint64_t fail_one_in) {
  Start();
  host().set_is_frozen([this](Gfn gfn) {
    const Interleaver::Unobserved unobserved;
    return TdpMmuPeer::IsFrozen(mmu(), gfn);
  });
  if (fail_one_in != 0) AllowStricterHost();
  host().set_hook([this, fail_one_in](const HostCall& call) {
    scheduler_.BeforeStep(TestStep::kHostCall, nullptr);
    HostFailure failure;
    if (fail_one_in == 0 || !scheduler_.IsScheduled()) return failure;
    if (scheduler_.Choose(fail_one_in) != 1) return failure;
    failure.error = kHostErrors[scheduler_.Choose(kHostErrors.size())];
    failure.applied_frames = scheduler_.Choose(call.run.size() + 1);
    failure.reported_frames = scheduler_.Choose(failure.applied_frames + 1);
    return failure;
  });
}

TouchResult MmuWorld::Touch(uint64_t gfn, bool write) {
  FakeBacking* const slot = backings_.Find(Gfn(gfn));
  if (slot == nullptr) return TouchResult::kUnbacked;
  for (;;) {
    scheduler_.Look();
    const uint64_t wakes = slot->WakeCount(Gfn(gfn));
    if (slot->Grants(Gfn(gfn), write)) return TouchResult::kDone;
    switch (mmu().HandleFault({Gfn(gfn), write}).result) {
      case FaultResult::kFixed:
      case FaultResult::kSpurious:
      case FaultResult::kWriteProtected:
      case FaultResult::kRetry:
        break;
      case FaultResult::kUnbacked:
      case FaultResult::kChanging:
        return TouchResult::kUnbacked;
      case FaultResult::kForbidden:
        return TouchResult::kForbidden;
      case FaultResult::kFailed:
        return TouchResult::kFailed;
    }
    scheduler_.SleepUntil([&] { return slot->WakeCount(Gfn(gfn)) != wakes; });
  }
}

void InterleavingTest::SetUp() {
  if (!test_hooks::kEnabled) GTEST_SKIP() << "needs --config=hooks";
}

bool InterleavingTest::RunOnce(Interleaver& scheduler, const Schedule& schedule,
                               const InterleavedCase& test_case) {
  scheduler.Begin(schedule);
  {
    MmuWorld world(scheduler);
    test_case.prepare(world);
    std::vector<std::function<void()>> bodies;
    for (const MmuVerb& verb : test_case.threads) {
      bodies.emplace_back([&world, &verb] { verb(world); });
    }
    scheduler.Run(bodies);
    test_case.check(world);
    world.Finish();
  }
  scheduler.End();
  if (!HasFailure()) return true;
  ADD_FAILURE() << "replay it with TDPD_SCHEDULE=" << schedule.ToString()
                << " --gtest_filter=" << CurrentTestName();
  return false;
}

// Depth first: a schedule is extended by one more switch after its last one.
int64_t InterleavingTest::RunAll(Interleaver& scheduler,
                                 const InterleavedCase& test_case) {
  int64_t runs = 0;
  std::vector<Schedule> to_run = {Schedule()};
  while (!to_run.empty()) {
    const Schedule schedule = std::move(to_run.back());
    to_run.pop_back();
    ++runs;
    if (!RunOnce(scheduler, schedule, test_case)) return runs;
    const std::vector<Interleaver::Decision>& made = scheduler.decisions();
    int preemptions = 0;
    uint32_t first = 0;
    for (const Switch& one : schedule.switches) {
      if (made[one.decision].running >= 0) ++preemptions;
      first = one.decision + 1;
    }
    const auto choices =
        static_cast<int>(schedule.switches.size()) - preemptions;
    for (uint32_t i = first; i < made.size(); ++i) {
      if (made[i].running >= 0 ? preemptions == test_case.preemptions
                               : choices == kMaxChoices) {
        continue;
      }
      for (int thread = 0; thread < 8; ++thread) {
        if ((made[i].others >> thread & 1) == 0) continue;
        to_run.push_back(schedule);
        to_run.back().switches.push_back({i, thread});
      }
    }
  }
  return runs;
}

void InterleavingTest::Explore(const InterleavedCase& test_case) {
  Interleaver scheduler(CurrentTestName(), test_case.options);
  if (const char* text = std::getenv("TDPD_SCHEDULE"); text != nullptr) {
    const std::optional<Schedule> schedule = Schedule::Parse(text);
    ASSERT_TRUE(schedule.has_value()) << text;
    RunOnce(scheduler, *schedule, test_case);
    std::fprintf(stderr, "%s", scheduler.TraceText().c_str());
    return;
  }
  const int64_t exhausted = RunAll(scheduler, test_case);
  if (HasFailure()) return;
  const int64_t random_schedules =
      int64_t{test_case.random_schedules} * SeedFactor();
  for (int64_t seed = 1; seed <= random_schedules; ++seed) {
    if (!RunOnce(scheduler, {.seed = static_cast<uint64_t>(seed)}, test_case)) {
      return;
    }
  }
  RecordProperty("interleavings", std::to_string(exhausted));
  RecordProperty("random_schedules", std::to_string(random_schedules));
  std::printf("  %lld interleavings, %lld random schedules\n",
              static_cast<long long>(exhausted),
              static_cast<long long>(random_schedules));
}

MmuVerb InterleavingTest::Maps(uint64_t start, uint64_t end,
                               MapOptions options) {
  return [=](MmuWorld& world) {
    const MmuProgress progress = world.Map(start, end, options);
    EXPECT_TRUE(progress.status.ok()) << progress.status;
    EXPECT_EQ(progress.next_gfn, Gfn(end));
  };
}

MmuVerb InterleavingTest::Zaps(uint64_t start, uint64_t end) {
  return [=](MmuWorld& world) {
    const MmuProgress progress = world.Zap(start, end);
    EXPECT_TRUE(progress.status.ok()) << progress.status;
    EXPECT_EQ(progress.next_gfn, Gfn(end));
  };
}

MmuVerb InterleavingTest::Touches(uint64_t gfn, bool write) {
  return [=](MmuWorld& world) { world.TouchForSure(gfn, write); };
}

MmuVerb InterleavingTest::ZapsAll() {
  return [](MmuWorld& world) { world.ZapAll(); };
}

MmuVerb InterleavingTest::Walks(uint64_t start, uint64_t end) {
  return [=](MmuWorld& world) {
    std::vector<uint64_t> gfns;
    for (uint64_t gfn = start; gfn < end; ++gfn) {
      gfns.push_back(gfn);
      const std::vector<WalkedEntry> path = world.mmu().WalkGfn(Gfn(gfn));
      for (size_t i = 0; i + 1 < path.size(); ++i) {
        EXPECT_TRUE(path[i].spte.IsTable(path[i].level));
      }
    }
    world.mmu().WalkFrames(
        gfns, Prefetch::kNo, [&](size_t i, const WalkedEntry& entry) {
          EXPECT_FALSE(entry.spte.IsTable(entry.level)) << gfns[i];
        });
  };
}

MmuVerb InterleavingTest::Audits() {
  return [](MmuWorld& world) {
    for (const AuditFinding& finding : world.Audit()) {
      ADD_FAILURE() << "frame " << finding.gfn.value()
                    << (finding.host_grants_more ? ": host grants more"
                                                 : ": host grants less");
    }
  };
}

MmuVerb InterleavingTest::Sequence(std::vector<MmuVerb> verbs) {
  return [verbs = std::move(verbs)](MmuWorld& world) {
    for (const MmuVerb& verb : verbs) verb(world);
  };
}

}  // namespace tdp::testing
