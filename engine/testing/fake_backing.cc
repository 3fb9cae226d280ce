#include "engine/testing/fake_backing.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/limits.h"

namespace tdp::testing {
namespace {

const char* NameOf(HostCallKind kind) {
  switch (kind) {
    case HostCallKind::kMap:
      return "Map";
    case HostCallKind::kUnmap:
      return "Unmap";
    case HostCallKind::kProtect:
      return "Protect";
  }
  return "?";
}

}  // namespace

void FakeHost::FailNth(int64_t n, HostFailure failure) {
  const int64_t number = call_count() + n;
  set_hook([number, failure](const HostCall& call) {
    return call.number == number ? failure : HostFailure{};
  });
}

std::vector<std::string> FakeHost::violations() const {
  MutexLock lock(mutex_);
  return violations_;
}

HostFailure FakeHost::Enter(HostCallKind kind, GfnRange run) {
  const int64_t number = call_count_.fetch_add(1) + 1;
  return hook_ ? hook_({kind, run, number}) : HostFailure{};
}

void FakeHost::AddViolation(HostCallKind kind, GfnRange run, Gfn gfn,
                            const char* what) {
  MutexLock lock(mutex_);
  violations_.push_back(absl::StrCat(NameOf(kind), " of [", run.start.value(),
                                     ", ", run.end.value(), "), frame ",
                                     gfn.value(), ": ", what));
}

FakeBacking::FakeBacking(FakeHost& host, const FakeSlotOptions& options,
                         Pfn base_pfn)
    : host_(host),
      options_(options),
      base_pfn_(base_pfn),
      frames_(new Frame[options.range.size()]) {}

absl::Status FakeBacking::LoadContent(GfnRange run) {
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    if (bad_content_.has_value() && bad_content_->first == gfn) {
      return bad_content_->second;
    }
    FrameAt(gfn).state.fetch_or(kContent);
  }
  return absl::OkStatus();
}

HostCallResult FakeBacking::Run(HostCallKind kind, GfnRange run,
                                const std::function<int(Frame&)>& change) {
  if (run.empty() || !range().Contains(run)) {
    host_.AddViolation(kind, run, run.start, "the run is not in its memslot");
    return {0, EINVAL};
  }
  if (run.size() > limits::kMaxHostCallFrames) {
    host_.AddViolation(kind, run, run.start, "the run is too long");
  }
  if (!IsAligned(run.start.value(), host_page_level()) ||
      !IsAligned(run.end.value(), host_page_level())) {
    host_.AddViolation(kind, run, run.start, "the run cuts a host page");
  }
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    if (FrameAt(gfn).busy.exchange(true)) {
      host_.AddViolation(kind, run, gfn, "two host calls at the same time");
    }
    if (!host_.IsFrozen(gfn)) {
      host_.AddViolation(kind, run, gfn, "nobody owns the frame");
    }
  }
  const HostFailure failure = host_.Enter(kind, run);
  const uint64_t wanted = failure.error == 0
                              ? run.size()
                              : std::min(failure.applied_frames, run.size());
  HostCallResult result = {0, failure.error};
  uint64_t applied = 0;
  while (applied < wanted) {
    const int error = change(FrameAt(run.start + applied));
    if (error != 0) {
      result.error = error;
      break;
    }
    ++applied;
  }
  const bool admits_all = failure.error == 0 || kind == HostCallKind::kMap;
  result.done_frames =
      admits_all ? applied : std::min(applied, failure.reported_frames);
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    if (!host_.IsFrozen(gfn)) {
      host_.AddViolation(kind, run, gfn, "its owner let go too early");
    }
    FrameAt(gfn).busy.store(false);
  }
  return result;
}

HostCallResult FakeBacking::Map(GfnRange run, HostProtection protection) {
  return Run(HostCallKind::kMap, run, [&](Frame& frame) {
    if ((frame.state.load() & kContent) == 0) return EFAULT;
    frame.state.store(
        kContent | kPresent |
        (protection == HostProtection::kReadWrite ? kWritable : 0));
    return 0;
  });
}

HostCallResult FakeBacking::Unmap(GfnRange run) {
  return Run(HostCallKind::kUnmap, run, [](Frame& frame) {
    frame.state.fetch_and(kContent);
    return 0;
  });
}

HostCallResult FakeBacking::Protect(GfnRange run, HostProtection protection) {
  return Run(HostCallKind::kProtect, run, [&](Frame& frame) {
    const uint8_t state = frame.state.load();
    if ((state & kPresent) == 0) return 0;
    frame.state.store(protection == HostProtection::kReadWrite
                          ? state | kWritable
                          : state & ~kWritable);
    return 0;
  });
}

GfnRange FakeBacking::ReadyAround(Gfn gfn, GfnRange window) {
  const auto ready = [&](Gfn at) {
    return (FrameAt(at).state.load() & kContent) != 0;
  };
  window = window.Intersect(range());
  GfnRange around = {gfn, gfn + 1};
  while (around.start > window.start && ready(Gfn(around.start.value() - 1))) {
    around.start = Gfn(around.start.value() - 1);
  }
  while (around.end < window.end && ready(around.end)) around.end += 1;
  return around;
}

void FakeBacking::NoteWritten(Gfn gfn) {
  if (!tracks_writes()) return;
  const GfnRange page = HostPageOf(*this, gfn);
  MutexLock lock(written_mutex_);
  for (Gfn one = page.start; one < page.end; one += 1) {
    written_.insert(one.value());
  }
}

std::vector<Gfn> FakeBacking::TakeWritten() {
  MutexLock lock(written_mutex_);
  const std::vector<Gfn> written(written_.begin(), written_.end());
  written_.clear();
  return written;
}

void FakeBacking::Wake(GfnRange run) {
  assert(range().Contains(run));
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    FrameAt(gfn).wakes.fetch_add(1);
  }
  // A sleeper announces itself before it looks at the count.
  if (sleepers_.load() == 0) return;
  MutexLock lock(sleep_mutex_);
  woken_.NotifyAll();
}

absl::Status FakeBacking::Inspect(GfnRange run, absl::Span<HostFrame> frames) {
  assert(range().Contains(run) && frames.size() == run.size());
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    frames[gfn - run.start] = At(gfn);
  }
  return absl::OkStatus();
}

HostFrame FakeBacking::At(Gfn gfn) const {
  const uint8_t state = FrameAt(gfn).state.load();
  return {.present = (state & kPresent) != 0,
          .writable = (state & kWritable) != 0};
}

bool FakeBacking::Grants(Gfn gfn, bool write) const {
  const HostFrame frame = At(gfn);
  return frame.present && (!write || frame.writable);
}

bool FakeBacking::HasContent(Gfn gfn) const {
  return (FrameAt(gfn).state.load() & kContent) != 0;
}

void FakeBacking::SetHost(GfnRange run, HostFrame frame) {
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    std::atomic<uint8_t>& state = FrameAt(gfn).state;
    state.store((frame.present ? kContent : state.load() & kContent) |
                (frame.present ? kPresent : 0) |
                (frame.writable ? kWritable : 0));
  }
}

void FakeBacking::DiscardContent(GfnRange run) {
  for (Gfn gfn = run.start; gfn < run.end; gfn += 1) {
    FrameAt(gfn).state.fetch_and(static_cast<uint8_t>(~kContent));
  }
}

void FakeBacking::FailContentOf(Gfn gfn, absl::Status status) {
  bad_content_.emplace(gfn, std::move(status));
}

uint64_t FakeBacking::WakeCount(Gfn gfn) const {
  return FrameAt(gfn).wakes.load();
}

bool FakeBacking::WaitForWake(Gfn gfn, uint64_t seen, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  sleepers_.fetch_add(1);
  MutexLock lock(sleep_mutex_);
  bool late = false;
  while (WakeCount(gfn) == seen && !late) {
    late = woken_.WaitUntil(sleep_mutex_, deadline);
  }
  sleepers_.fetch_sub(1);
  return WakeCount(gfn) != seen;
}

PinResult FakeBacking::Pin(PinMode mode) {
  const bool for_map = mode == PinMode::kMap;
  if (gone()) return {};
  PinCount& pins = for_map ? map_pins_ : unmap_pins_;
  if (pins.TryPin()) return {BackingPin(this, for_map), false};
  return {BackingPin(), !gone()};
}

void FakeBacking::Unpin(bool for_map) {
  (for_map ? map_pins_ : unmap_pins_).Unpin();
}

FakeBacking& FakeBackingTable::Add(const FakeSlotOptions& options) {
  constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k1G);
  // Congruent to the first frame, and no neighbour of another memslot's.
  const uint64_t offset = options.range.start.value() % kBlock;
  const Pfn base_pfn(next_pfn_block_ * kBlock + offset);
  next_pfn_block_ += (offset + options.range.size()) / kBlock + 2;
  auto slot = std::make_unique<FakeBacking>(host_, options, base_pfn);
  FakeBacking& added = *slot;
  const auto place =
      std::find_if(slots_.begin(), slots_.end(), [&](const auto& other) {
        return other->range().start > options.range.start;
      });
  slots_.insert(place, std::move(slot));
  return added;
}

PinResult FakeBackingTable::Pin(Gfn gfn, PinMode mode) {
  FakeBacking* slot = Find(gfn);
  return slot == nullptr ? PinResult{} : slot->Pin(mode);
}

bool FakeBackingTable::NextBacked(Gfn gfn, Gfn* next) {
  for (const auto& slot : slots_) {
    if (slot->gone() || slot->range().end <= gfn) continue;
    *next = std::max(gfn, slot->range().start);
    return true;
  }
  return false;
}

FakeBacking* FakeBackingTable::Find(Gfn gfn) const {
  for (const auto& slot : slots_) {
    if (slot->range().Contains(gfn)) return slot.get();
  }
  return nullptr;
}

}  // namespace tdp::testing
