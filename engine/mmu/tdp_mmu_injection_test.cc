// Every verb with every step made to fail, one at a time. Afterwards each frame
// is as before, or as the verb would have left it, or (after a failed host
// call) allows less than before; nothing is left frozen, and a zap-all gives
// every table back. The verb, called again, does its work.

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/testing/fault_injector.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

// What a frame allows.
struct FrameState {
  bool present = false;  // A is set, too
  bool writable = false;

  friend bool operator==(FrameState, FrameState) = default;
  bool AllowsNoMoreThan(FrameState other) const {
    return present <= other.present && writable <= other.writable;
  }
};
// By frame; those of no leaf are left out.
using States = std::map<uint64_t, FrameState>;

class World : public TdpMmuTest {
 public:
  using TdpMmuTest::AllowStricterHost;
  using TdpMmuTest::Audit;
  using TdpMmuTest::Fault;
  using TdpMmuTest::host;
  using TdpMmuTest::kBlock;
  using TdpMmuTest::Map;
  using TdpMmuTest::mmu;
  using TdpMmuTest::Zap;

  // Nothing is mapped from here on, up to four blocks.
  static constexpr uint64_t kFar = FramesPerEntry(PageLevel::k512G);
  static constexpr uint64_t kReadOnlySlot = 4 * kBlock;

  // In four blocks: small leaves, writable, read-only and aged; a writable huge
  // leaf; a read-only huge leaf; an empty table. Then a read-only memslot, and
  // a far one that needs a table at each level.
  World() {
    AddSlot(0, 4 * kBlock, PageLevel::k2M);
    AddSlot(kReadOnlySlot, 64, PageLevel::k4K, /*writable=*/false);
    AddSlot(kFar, 8);
    Start();
    Must(Map(0, 8, {.max_level = PageLevel::k4K, .write = true}));
    Must(Map(8, 16, {.max_level = PageLevel::k4K}));
    const FakeBacking& slot = *backings_.Find(Gfn(0));
    TdpMmuPeer::InstallLeaf(
        mmu(), Gfn(20), PageLevel::k4K,
        Spte::MakeLeaf({.pfn = PfnOf(Gfn(20), slot.range(), slot.base_pfn()),
                        .mmu_writable = true,
                        .host_writable = true,
                        .accessed = false},
                       PageLevel::k4K));
    Must(Map(kBlock, 2 * kBlock, {.write = true}));
    Must(Map(2 * kBlock, 3 * kBlock));
    Must(Map(3 * kBlock, 3 * kBlock + 1, {.max_level = PageLevel::k4K}));
    Must(Zap(3 * kBlock, 3 * kBlock + 1));
    Must(Map(kReadOnlySlot, kReadOnlySlot + 8));
  }

  States Observe() {
    States states;
    for (const TdpRoot& root : TdpMmuPeer::Roots(mmu())) {
      RcuReadGuard rcu(rcu_);
      for (TdpIterator it(root.tree(), root.tree().span()); it.valid();
           it.Next()) {
        if (!it.spte().IsLeaf(it.level())) continue;
        const FrameState state = {
            .present = it.spte().IsHostMapped(),
            .writable = it.spte().IsHostMapped() && it.spte().IsWritable()};
        for (Gfn gfn = it.gfn(); gfn < it.covered().end; gfn += 1) {
          states[gfn.value()] = state;
        }
      }
    }
    return states;
  }

  static void Must(const MmuProgress& progress) {
    ASSERT_TRUE(progress.status.ok()) << progress.status;
  }
  // The checks at the end. The world is of no use afterwards.
  void Finish() { TearDown(); }

 private:
  void TestBody() override {}
};

FrameState StateOf(const States& states, uint64_t gfn) {
  const auto found = states.find(gfn);
  return found == states.end() ? FrameState{} : found->second;
}

struct Verb {
  std::string name;
  std::function<absl::Status(World&)> run;
  std::function<void(World&)> prepare = [](World&) {};
  // Frames may allow less than before although no host call failed.
  bool may_remove = false;
};

// A fault as a vCPU has it: again until it is no longer told to look again.
absl::Status Touch(World& world, uint64_t gfn, bool write) {
  for (int turn = 0; turn < 100; ++turn) {
    const FaultOutcome outcome = world.mmu().HandleFault({Gfn(gfn), write});
    if (outcome.result == FaultResult::kRetry) continue;
    if (outcome.result == FaultResult::kFailed) return outcome.status;
    EXPECT_TRUE(outcome.result == FaultResult::kFixed ||
                outcome.result == FaultResult::kSpurious ||
                outcome.result == FaultResult::kWriteProtected)
        << static_cast<int>(outcome.result);
    return absl::OkStatus();
  }
  return absl::InternalError("the fault never ends");
}

Verb Touches(const char* name, uint64_t gfn, bool write) {
  return {name, [=](World& world) { return Touch(world, gfn, write); }};
}
Verb Maps(const char* name, uint64_t start, uint64_t end, MapOptions options) {
  return {name,
          [=](World& world) { return world.Map(start, end, options).status; }};
}
Verb Zaps(const char* name, uint64_t start, uint64_t end) {
  return {name, [=](World& world) { return world.Zap(start, end).status; }};
}

absl::Status ZapAll(World& world) {
  if (absl::StatusOr<int> s = world.mmu().InvalidateRoots(); !s.ok()) {
    return s.status();
  }
  return world.mmu().ZapInvalidatedRoots();
}

bool Never() { return false; }

// Verbs that protect, age, split, collapse and batch.
std::vector<Verb> LaterVerbs() {
  constexpr uint64_t kBlock = World::kBlock;
  const auto limits = [](const char* name, uint64_t start, uint64_t end,
                         Access limit) {
    return Verb{name, [=](World& world) {
                  return world.mmu()
                      .ProtectRange({Gfn(start), Gfn(end)}, limit, Never)
                      .status;
                }};
  };
  return {
      {"a split",
       [](World& world) {
         return world.mmu()
             .SplitHugePages({Gfn(kBlock), Gfn(3 * kBlock)}, PageLevel::k4K,
                             Never)
             .status;
       }},
      {"a collapse",
       [](World& world) {
         return world.mmu()
             .CollapseHugePages({Gfn(3 * kBlock), Gfn(4 * kBlock)},
                                PageLevel::k2M, Never)
             .status;
       },
       [](World& world) {
         World::Must(world.Map(3 * kBlock, 4 * kBlock,
                               {.max_level = PageLevel::k4K, .write = true}));
       }},
      {"ageing",
       [](World& world) {
         return world.mmu()
             .AgeRange({Gfn(0), Gfn(4 * kBlock)}, /*test_only=*/false, Never,
                       [](GfnRange) {})
             .status;
       }},
      {"a write-protect",
       [](World& world) {
         return world.mmu()
             .WriteProtectRange({Gfn(2), Gfn(2 * kBlock)}, PageLevel::k4K,
                                Never)
             .status;
       }},
      limits("a limit to reads", 4, 24, {.read = true}),
      limits("a limit inside a huge leaf", kBlock + 3, kBlock + 5,
             {.read = true}),
      limits("a limit to nothing", 4, 2 * kBlock, {}),
      {"a batch",
       [](World& world) {
         const std::vector<MmuOperation> operations = {
             {.kind = MmuOperation::Kind::kZap, .range = {Gfn(0), Gfn(4)}},
             {.kind = MmuOperation::Kind::kWriteProtect,
              .range = {Gfn(5), Gfn(8)}},
             {.kind = MmuOperation::Kind::kProtect,
              .range = {Gfn(8), Gfn(12)},
              .access = {}},
             {.kind = MmuOperation::Kind::kMap,
              .range = {Gfn(14), Gfn(40)},
              .write = true},
             {.kind = MmuOperation::Kind::kZap,
              .range = {Gfn(kBlock + 7), Gfn(kBlock + 9)}}};
         return world.mmu().ApplyBatch(operations).status;
       }},
  };
}

std::vector<Verb> Verbs() {
  constexpr uint64_t kBlock = World::kBlock;
  std::vector<Verb> verbs = {
      Touches("a fault that needs three tables", World::kFar + 3, true),
      Touches("a fault beside small leaves", 30, false),
      Touches("a write to a read-only leaf", 9, true),
      Touches("a write to a read-only huge leaf", 2 * kBlock + 7, true),
      Touches("a write to an aged leaf", 20, true),
      Touches("a spurious fault", 3, true),
      Touches("a huge fault over an empty table", 3 * kBlock + 9, true),
      Maps("a map of everything", 0, World::kReadOnlySlot + 16,
           {.write = true}),
      Maps("a map of small leaves", 0, 40,
           {.max_level = PageLevel::k4K, .write = false}),
      Maps("a map that needs three tables", World::kFar, World::kFar + 8,
           {.write = true}),
      Maps("a huge map over an empty table", 3 * kBlock, 4 * kBlock, {}),
      Zaps("a zap of everything", 0, World::kFar + 8),
      Zaps("a zap of some", 6, 12),
      Zaps("a zap of part of a huge leaf", kBlock + 3, kBlock + 4),
      {"a zap-all", ZapAll},
      {"an audit",
       [](World& world) {
         return world.mmu()
             .AuditRange(
                 world.mmu().span(), [] { return false; },
                 [](const AuditFinding& finding) {
                   EXPECT_FALSE(finding.host_grants_more);
                 })
             .status;
       }},
  };
  Verb held = Touches("a fault on a frame of an invalidated root", 3, true);
  held.prepare = [](World& world) {
    ASSERT_TRUE(world.mmu().InvalidateRoots().ok());
  };
  // What the old root holds goes away first.
  held.may_remove = true;
  verbs.push_back(held);
  held = Maps("a map over frames of an invalidated root", 0, 16, {});
  held.prepare = verbs.back().prepare;
  held.may_remove = true;
  verbs.push_back(held);
  for (Verb& verb : LaterVerbs()) verbs.push_back(std::move(verb));
  return verbs;
}

// How a fault is brought about in one execution.
using Injection = std::function<void(FaultInjector&, World&)>;

class TdpMmuInjectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test_hooks::kEnabled) GTEST_SKIP() << "needs --config=hooks";
  }

  struct Expect {
    // The verb does its work all the same.
    bool succeeds = false;
    // Frames may allow less than before.
    bool stricter = false;
    bool any_error = false;
    std::optional<ErrorReason> reason = std::nullopt;
  };

  // Runs a verb with a fault injected; false if the fault was not reached.
  bool Inject(const Verb& verb, const std::string& what,
              const Injection& injection,
              const std::function<bool(FaultInjector&, World&)>& reached,
              const Expect& expect) {
    SCOPED_TRACE(absl::StrCat(verb.name, "; ", what));
    ++executions_;
    FaultInjector injector;
    World world;
    verb.prepare(world);
    const States before = world.Observe();
    injection(injector, world);
    const absl::Status status = verb.run(world);
    const bool fired = reached(injector, world);
    injector.Disarm();
    world.host().ClearHook();
    if (expect.stricter) world.AllowStricterHost();
    if (!fired || expect.succeeds) {
      EXPECT_TRUE(status.ok()) << status;
    }
    if (!status.ok() && expect.reason.has_value()) {
      const std::optional<ErrorDetail> detail = DetailOf(status);
      EXPECT_TRUE(detail.has_value() && detail->reason == *expect.reason)
          << status;
    }
    const States now = world.Observe();
    ExpectBetween(verb, before, now,
                  (expect.stricter && fired) || verb.may_remove);
    if (status.ok() && !expect.stricter) {
      EXPECT_TRUE(Equal(now, after_.at(verb.name)));
    }
    for (const AuditFinding& finding : world.Audit()) {
      EXPECT_FALSE(finding.host_grants_more) << finding.gfn.value();
    }
    if (!status.ok()) {
      const absl::Status again = verb.run(world);
      EXPECT_TRUE(again.ok()) << "again: " << again;
      ExpectBetween(verb, before, world.Observe(),
                    (expect.stricter && fired) || verb.may_remove);
    }
    world.Finish();
    return fired;
  }

  void ExpectBetween(const Verb& verb, const States& before, const States& now,
                     bool stricter) {
    const States& after = After(verb);
    for (uint64_t gfn = 0; gfn < World::kReadOnlySlot + 64; ++gfn) {
      ExpectFrame(gfn, before, after, now, stricter);
    }
    for (uint64_t gfn = World::kFar; gfn < World::kFar + 8; ++gfn) {
      ExpectFrame(gfn, before, after, now, stricter);
    }
  }
  static void ExpectFrame(uint64_t gfn, const States& before,
                          const States& after, const States& now,
                          bool stricter) {
    const FrameState state = StateOf(now, gfn);
    if (state == StateOf(before, gfn) || state == StateOf(after, gfn)) return;
    ASSERT_TRUE(stricter && state.AllowsNoMoreThan(StateOf(before, gfn)))
        << gfn;
  }
  static bool Equal(const States& a, const States& b) {
    return std::all_of(a.begin(), a.end(),
                       [&](const auto& frame) {
                         return StateOf(b, frame.first) == frame.second;
                       }) &&
           std::all_of(b.begin(), b.end(), [&](const auto& frame) {
             return StateOf(a, frame.first) == frame.second;
           });
  }
  // What a verb does when nothing fails.
  const States& After(const Verb& verb) {
    auto found = after_.find(verb.name);
    if (found != after_.end()) return found->second;
    FaultInjector injector;
    World world;
    verb.prepare(world);
    const absl::Status status = verb.run(world);
    EXPECT_TRUE(status.ok()) << verb.name << ": " << status;
    found = after_.emplace(verb.name, world.Observe()).first;
    world.Finish();
    return found->second;
  }

  // All `n` at first; scans of 512 like entries need not fail at each of them.
  static int64_t NextN(int64_t n) { return n < 48 ? n + 1 : n + n / 8; }

  void InjectEach(FaultSite site, const std::string& name,
                  const Expect& expect) {
    for (const Verb& verb : Verbs()) {
      After(verb);
      for (int64_t n = 1;; n = NextN(n)) {
        const bool fired = Inject(
            verb, absl::StrCat(name, " ", n),
            [&](FaultInjector& injector, World&) { injector.Arm(site, n); },
            [](FaultInjector& injector, World&) { return injector.fired(); },
            expect);
        if (!fired || HasFailure()) break;
      }
      if (HasFailure()) return;
    }
    std::printf("  %lld executions\n", static_cast<long long>(executions_));
  }

  std::map<std::string, States> after_;
  int64_t executions_ = 0;
};

TEST_F(TdpMmuInjectionTest, EachAllocationFindsTheLimitReached) {
  InjectEach(FaultSite::kTableLimit, "allocation",
             {.reason = ErrorReason::kPageTableLimit});
}

TEST_F(TdpMmuInjectionTest, EachAllocationFindsTheHostWithoutMemory) {
  InjectEach(FaultSite::kHostMemory, "allocation",
             {.reason = ErrorReason::kHostMemoryExhausted});
}

TEST_F(TdpMmuInjectionTest, EachCompareExchangeIsLostOnce) {
  InjectEach(FaultSite::kCompareExchange, "compare-exchange",
             {.succeeds = true});
}

TEST_F(TdpMmuInjectionTest, EachRetryIsForcedOnce) {
  InjectEach(FaultSite::kRetry, "retry", {.succeeds = true});
}

TEST_F(TdpMmuInjectionTest, TheFirstRetriesAreForced) {
  for (const Verb& verb : Verbs()) {
    After(verb);
    for (int64_t n = 2; n <= 9; ++n) {
      Inject(
          verb, absl::StrCat(n, " retries"),
          [&](FaultInjector& injector, World&) {
            injector.Arm(FaultSite::kRetry, 1, n);
          },
          [](FaultInjector& injector, World&) { return injector.fired(); },
          {.succeeds = true});
    }
  }
}

TEST_F(TdpMmuInjectionTest, EveryYieldIsForced) {
  for (const Verb& verb : Verbs()) {
    After(verb);
    Inject(
        verb, "yields",
        [](FaultInjector& injector, World&) {
          injector.Arm(FaultSite::kYield, 1, INT64_MAX);
        },
        [](FaultInjector& injector, World&) { return injector.fired(); },
        {.succeeds = true});
  }
}

TEST_F(TdpMmuInjectionTest, EachHostCallFailsWithEachErrnoAtEachPlace) {
  constexpr std::array kErrors = {ENOMEM, EAGAIN, EFAULT, EINVAL,
                                  EPERM,  ENOENT, EEXIST};
  struct Place {
    uint64_t applied;
    uint64_t reported;
  };
  // Of any run, the first is nothing, the last everything.
  constexpr std::array<Place, 6> kPlaces = {
      Place{0, 0}, {3, 0}, {3, 3}, {256, 17}, {1 << 20, 0}, {1 << 20, 1}};
  for (const Verb& verb : Verbs()) {
    After(verb);
    for (const int error : kErrors) {
      for (const Place& place : kPlaces) {
        for (int64_t n = 1;; ++n) {
          bool called = false;
          const bool fired = Inject(
              verb,
              absl::StrCat("host call ", n, ", errno ", error, ", applied ",
                           place.applied, ", reported ", place.reported),
              [&](FaultInjector&, World& world) {
                const int64_t number = world.host().call_count() + n;
                world.host().set_hook([&, number](const HostCall& call) {
                  if (call.number != number) return HostFailure{};
                  called = true;
                  return HostFailure{error, place.applied, place.reported};
                });
              },
              [&](FaultInjector&, World&) { return called; },
              {.stricter = true});
          if (!fired || HasFailure()) break;
        }
        if (HasFailure()) return;
      }
    }
  }
  std::printf("  %lld executions\n", static_cast<long long>(executions_));
}

}  // namespace
}  // namespace tdp::testing
