#include "engine/testing/mmu_model_run.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/testing/tdp_mmu_peer.h"

namespace tdp::testing {
namespace {

using State = MmuModel::SlotState;

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
constexpr uint64_t kGiant = FramesPerEntry(PageLevel::k1G);
constexpr uint64_t kFrames = 2 * kGiant;
// Behind the small memslots.
constexpr uint64_t kLowEnd = 4700;
// Memslots of the same size of which one exists: moving turns one into the
// other.
constexpr size_t kMovable = 3;
constexpr size_t kMoved = 4;
constexpr size_t kGiantSlot = 6;
// Steps between two comparisons of everything.
constexpr int64_t kCompareAllInterval = 500;
constexpr int64_t kGiantInterval = 20'000;

// In one block: the end of the first, all of the second, the start of the
// third.
constexpr MmuModel::Slot kSlots[] = {
    {{Gfn(10), Gfn(1114)}, true, PageLevel::k2M, State::kLive},
    {{Gfn(1124), Gfn(1174)}, false, PageLevel::k4K, State::kLive},
    {{Gfn(1174), Gfn(2710)}, true, PageLevel::k2M, State::kLive},
    {{Gfn(2710), Gfn(2774)}, true, PageLevel::k4K, State::kLive},
    {{Gfn(2784), Gfn(2848)}, true, PageLevel::k4K, State::kGone},
    {{Gfn(3072), Gfn(4608)}, false, PageLevel::k2M, State::kLive},
    {{Gfn(kGiant), Gfn(2 * kGiant)}, true, PageLevel::k2M, State::kLive}};

std::string Text(const char* what, GfnRange range) {
  return absl::StrCat(what, " [", range.start.value(), ", ", range.end.value(),
                      ")");
}

}  // namespace

ModelRun::ModelRun(const ModelRunOptions& options)
    : options_(options),
      random_(options.seed),
      model_(kFrames, PageLevel::k512G) {
  for (const MmuModel::Slot& slot : kSlots) AddSlot(slot);
  absl::StatusOr<std::unique_ptr<TdpMmu>> mmu =
      TdpMmu::Create(rcu_, backings_, PageLevel::k512G, int64_t{64} << 20);
  TDP_CHECK(mmu.ok(), "a test has memory enough");
  mmu_ = *std::move(mmu);
  backings_.host().set_is_frozen(
      [this](Gfn gfn) { return TdpMmuPeer::IsFrozen(*mmu_, gfn); });
}

ModelRun::~ModelRun() {
  // After a failure the leaves are still there.
  (void)mmu_->InvalidateRoots();
  (void)mmu_->ZapInvalidatedRoots();
}

void ModelRun::AddSlot(const MmuModel::Slot& slot) {
  FakeBacking& backing =
      backings_.Add({.range = slot.range,
                     .writable = slot.writable,
                     .max_fault_level = slot.max_fault_level});
  if (slot.state == State::kGone) {
    backing.CloseForMap();
    backing.CloseForUnmap();
    backing.set_gone(true);
  }
  model_.AddSlot(slot);
}

std::optional<ModelFailure> ModelRun::Run() {
  for (int64_t step = 0; step < options_.steps; ++step) {
    if (options_.planted_at == step) {
      backings_.Find(Gfn(10))->SetHost(
          {Gfn(10), Gfn(11)},
          {.present = true, .writable = !model_.At(10).host.writable});
    }
    touched_ = {};
    if (step % kGiantInterval == kGiantInterval / 2) {
      StepGiant();
    } else {
      Step();
    }
    if (options_.print_operations) {
      std::fprintf(stderr, "step %ld: %s\n", static_cast<long>(step),
                   operation_.c_str());
    }
    if (!touched_.empty()) CompareFrames(touched_);
    CompareCounters();
    if (step % kCompareAllInterval == kCompareAllInterval - 1) CompareAll();
    if (!difference_.empty()) {
      return ModelFailure{options_.seed, step, operation_, difference_};
    }
  }
  CompareEnd();
  if (difference_.empty()) return std::nullopt;
  return ModelFailure{options_.seed, options_.steps, "end", difference_};
}

void ModelRun::Step() {
  const uint64_t choice = Random(1000);
  if (choice < 300) return StepFault();
  if (choice < 480) return StepMap();
  if (choice < 570) return StepZap();
  if (choice < 640) return StepProtect();
  if (choice < 700) return StepWriteProtect();
  if (choice < 740) return StepSplit();
  if (choice < 800) return StepCollapse();
  if (choice < 870) return StepAge();
  if (choice < 910) return StepBatch();
  if (choice < 930) return StepDropHost();
  if (choice < 945) return StepDiscard();
  if (choice < 950) return StepSlotLife();
  if (choice < 970) {
    touched_ = RandomRange();
    operation_ = Text("walk", touched_);
    return CompareWalk(touched_);
  }
  if (choice < 990) {
    touched_ = RandomRange();
    operation_ = Text("audit", touched_);
    return CompareAudit(touched_);
  }
  if (choice < 994 && model_.tables().size() < 4) {
    operation_ = "invalidate";
    model_.InvalidateRoots();
    if (!mmu_->InvalidateRoots().ok()) Differ("it failed");
    return;
  }
  operation_ = "zap invalidated roots";
  model_.ZapInvalidatedRoots();
  if (!mmu_->ZapInvalidatedRoots().ok()) Differ("it failed");
}

// --- Choices -----------------------------------------------------------------

uint64_t ModelRun::RandomFrame() {
  if (OneIn(6)) {
    // Beside the end of a memslot or a block.
    const MmuModel::Slot& slot = kSlots[Random(std::size(kSlots))];
    const uint64_t edges[] = {slot.range.start.value(), slot.range.end.value(),
                              Random(9) * kBlock, kGiant + kBlock};
    const uint64_t frame = edges[Random(std::size(edges))] + Random(3);
    return std::min(frame - std::min<uint64_t>(frame, 1), kFrames - 1);
  }
  return OneIn(6) ? kGiant + Random(3 * kBlock) : Random(kLowEnd);
}

GfnRange ModelRun::RandomRange() {
  uint64_t start = RandomFrame();
  uint64_t length = 1 + Random(24);
  const uint64_t shape = Random(100);
  if (shape < 25) {
    length = 1 + Random(160);
  } else if (shape < 33) {
    start = start / kBlock * kBlock;
    length = kBlock * (1 + Random(2));
  } else if (shape < 35) {
    length = 1 + Random(2 * kBlock);
  }
  return {Gfn(start), Gfn(std::min(start + length, kFrames))};
}

Access ModelRun::RandomLimit() {
  switch (Random(4)) {
    case 0:
      return {};
    case 1:
      return {.read = true};
    default:
      return {.read = true, .write = true};
  }
}

// --- Verbs -------------------------------------------------------------------

void ModelRun::StepFault() {
  const uint64_t gfn = RandomFrame();
  const PageFault fault = {
      .gfn = Gfn(gfn), .write = OneIn(2), .may_install = !OneIn(10)};
  touched_ = {Gfn(gfn), Gfn(gfn + 1)};
  operation_ = absl::StrCat(fault.write ? "write " : "read ", gfn,
                            fault.may_install ? "" : " without install");
  const FaultResult expected =
      model_.Fault(gfn, fault.write, fault.may_install);
  const FaultResult result = mmu_->HandleFault(fault).result;
  if (result != expected) {
    Differ(absl::StrCat("the fault's result is ", static_cast<int>(result),
                        ", not ", static_cast<int>(expected)));
  }
}

void ModelRun::MapFrames(GfnRange range, const MapOptions& options) {
  operation_ = absl::StrCat(Text("map", range), " up to level ",
                            static_cast<int>(options.max_level),
                            options.write ? " for writing" : "");
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->MapRange(rest, options, stop);
      },
      [&] { return model_.Map(range, options); });
}

void ModelRun::StepMap() {
  MapFrames(RandomRange(),
            {.max_level = OneIn(2) ? PageLevel::k4K : PageLevel::k2M,
             .write = OneIn(2)});
}

void ModelRun::ZapFrames(GfnRange range) {
  operation_ = Text("zap", range);
  Make(
      range,
      [&](GfnRange rest, Stop stop) { return mmu_->ZapRange(rest, stop); },
      [&] { return model_.Zap(range); });
}

void ModelRun::StepZap() { ZapFrames(RandomRange()); }

void ModelRun::ProtectFrames(GfnRange range, Access limit) {
  operation_ =
      absl::StrCat(Text("protect", range), " to ", limit.read, limit.write);
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->ProtectRange(rest, limit, stop);
      },
      [&] { return model_.Protect(range, limit); });
}

void ModelRun::StepProtect() {
  GfnRange range = RandomRange();
  // Limits do not pile up.
  if (OneIn(3)) range = {AlignDown(range.start, PageLevel::k2M), range.end};
  ProtectFrames(range, RandomLimit());
}

void ModelRun::StepWriteProtect() {
  const GfnRange range = RandomRange();
  const PageLevel level = OneIn(4) ? PageLevel::k2M : PageLevel::k4K;
  operation_ = absl::StrCat(Text("write-protect", range), " from level ",
                            static_cast<int>(level));
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->WriteProtectRange(rest, level, stop);
      },
      [&] { return model_.WriteProtect(range, level); });
}

void ModelRun::StepSplit() {
  const GfnRange range = RandomRange();
  const PageLevel level = OneIn(3) ? PageLevel::k2M : PageLevel::k4K;
  operation_ =
      absl::StrCat(Text("split", range), " to level ", static_cast<int>(level));
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->SplitHugePages(rest, level, stop);
      },
      [&] { return model_.Split(range, level); });
}

void ModelRun::StepCollapse() {
  GfnRange range = RandomRange();
  if (OneIn(2)) {
    range.start = AlignDown(range.start, PageLevel::k2M);
    range.end = range.start + kBlock;
  }
  const PageLevel level = OneIn(4) ? PageLevel::k1G : PageLevel::k2M;
  operation_ = absl::StrCat(Text("collapse", range), " up to level ",
                            static_cast<int>(level));
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->CollapseHugePages(rest, level, stop);
      },
      [&] { return model_.Collapse(range, level); });
}

void ModelRun::StepAge() {
  const GfnRange range = RandomRange();
  const bool test_only = OneIn(3);
  operation_ = Text(test_only ? "test-age" : "age", range);
  std::set<uint64_t> young;
  std::set<uint64_t> expected;
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->AgeRange(rest, test_only, stop, [&](GfnRange leaves) {
          const GfnRange run = leaves.Intersect(rest);
          for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
            if (!young.insert(gfn.value()).second) Differ("young twice");
          }
        });
      },
      [&] { return model_.Age(range, test_only, &expected); });
  if (young != expected) Differ("other frames are young");
}

void ModelRun::StepBatch() {
  using Kind = MmuOperation::Kind;
  std::vector<MmuOperation> operations;
  operation_ = "batch:";
  Gfn next(RandomFrame());
  touched_.start = next;
  const uint64_t count = 1 + Random(4);
  for (uint64_t i = 0; i < count && next < Gfn(kFrames - kBlock); ++i) {
    MmuOperation operation;
    const uint64_t length = OneIn(10) ? kBlock : 1 + Random(30);
    operation.kind = static_cast<Kind>(Random(4));
    operation.range = {next, next + length};
    operation.access = RandomLimit();
    operation.min_level = OneIn(4) ? PageLevel::k2M : PageLevel::k4K;
    operation.write = OneIn(2);
    absl::StrAppend(&operation_, " kind ", static_cast<int>(operation.kind),
                    Text(" of", operation.range), " access ",
                    operation.access.read, operation.access.write, " level ",
                    static_cast<int>(operation.min_level), " write ",
                    operation.write, ";");
    operations.push_back(operation);
    touched_.end = operation.range.end;
    next = operation.range.end + Random(20);
  }
  const MmuModel::Result expected = model_.Batch(operations);
  const BatchOutcome outcome = mmu_->ApplyBatch(operations);
  CompareStatus(outcome.status, expected.error);
  if (outcome.changed_entries != expected.changed_entries) {
    Differ(absl::StrCat("changed_entries is ", outcome.changed_entries,
                        ", not ", expected.changed_entries));
  }
}

// --- The host, and memslots --------------------------------------------------

void ModelRun::StepDropHost() {
  touched_ = RandomRange();
  operation_ = Text("the host drops", touched_);
  for (const auto& slot : backings_.slots()) {
    const GfnRange range = touched_.Intersect(slot->range());
    if (!range.empty()) slot->SetHost(range, {});
  }
  model_.DropHost(touched_);
}

void ModelRun::StepDiscard() {
  const GfnRange range = RandomRange();
  ZapFrames(range);
  operation_ = Text("discard", range);
  for (const auto& slot : backings_.slots()) {
    const GfnRange part = range.Intersect(slot->range());
    if (!part.empty()) slot->DiscardContent(part);
  }
}

void ModelRun::CloseSlot(size_t index) {
  MmuModel::Slot& slot = model_.slots()[index];
  operation_ = Text("close", slot.range);
  backings_.Find(slot.range.start)->CloseForMap();
  slot.state = State::kClosed;
}

void ModelRun::OpenSlot(size_t index) {
  MmuModel::Slot& slot = model_.slots()[index];
  FakeBacking& backing = *backings_.Find(slot.range.start);
  if (slot.state == State::kGone) {
    backing.set_gone(false);
    backing.ReopenForUnmap();
  }
  backing.ReopenForMap();
  slot.state = State::kLive;
}

// REQUIRES: closed.
void ModelRun::DeleteSlot(size_t index) {
  MmuModel::Slot& slot = model_.slots()[index];
  ZapFrames(slot.range);
  operation_ = Text("delete", slot.range);
  FakeBacking& backing = *backings_.Find(slot.range.start);
  backing.CloseForUnmap();
  backing.set_gone(true);
  slot.state = State::kGone;
}

void ModelRun::StepSlotLife() {
  const size_t index = Random(kGiantSlot);
  MmuModel::Slot& slot = model_.slots()[index];
  operation_ = Text("nothing for", slot.range);
  if (slot.state == State::kLive) return CloseSlot(index);
  if (slot.state == State::kClosed && OneIn(2)) {
    operation_ = Text("reopen", slot.range);
    return OpenSlot(index);
  }
  if (slot.state == State::kClosed) {
    DeleteSlot(index);
    if (index != kMovable && index != kMoved) {
      model_.ClearLimits(slot.range);
      mmu_->ClearLimits(slot.range);
      return;
    }
    const size_t twin = index == kMovable ? kMoved : kMovable;
    const Gfn to = model_.slots()[twin].range.start;
    model_.MoveLimits(slot.range, to);
    mmu_->MoveLimits(slot.range, to);
    operation_ = Text("move", slot.range);
    return OpenSlot(twin);
  }
  // One of the twins is enough.
  if (index == kMovable || index == kMoved) return;
  operation_ = Text("create", slot.range);
  OpenSlot(index);
}

// Brings about what random ranges do not: a leaf of 1 GiB.
void ModelRun::StepGiant() {
  const GfnRange range = kSlots[kGiantSlot].range;
  ProtectFrames(range, {.read = true, .write = true});
  ZapFrames(range);
  MapFrames(range, {.max_level = PageLevel::k2M, .write = true});
  Make(
      range,
      [&](GfnRange rest, Stop stop) {
        return mmu_->CollapseHugePages(rest, PageLevel::k1G, stop);
      },
      [&] { return model_.Collapse(range, PageLevel::k1G); });
  operation_ = "a leaf of 1 GiB";
  touched_ = {range.start, range.start + kBlock};
  if (model_.At(kGiant).level != PageLevel::k1G) Differ("there is none");
  CompareAll();
}

}  // namespace tdp::testing
