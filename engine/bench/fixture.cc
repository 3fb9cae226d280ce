#include "engine/bench/fixture.h"

#include <random>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/limits.h"
#include "engine/bench/machine.h"

namespace tdp::bench {

uint64_t GuestFrames(const Options& options) {
  return options.quick ? kGiBFrames / 4 : 16 * kGiBFrames;
}

uint64_t BatchFrames(const Options& options) {
  return options.quick ? kGiBFrames / 64 : kGiBFrames;
}

NullVm::NullVm(uint64_t frames, PageLevel max_fault_level)
    : frames_(frames), rcu_(limits::kMaxRetiredBytes), backings_(rcu_) {
  backings_.Add({Gfn(0), Gfn(frames)}, max_fault_level);
  auto mmu = TdpMmu::Create(rcu_, backings_, PageLevel::k512G,
                            limits::kDefaultPageTableLimitBytes);
  TDP_CHECK(mmu.ok(), "no page tables");
  mmu_ = *std::move(mmu);
}

NullVm::~NullVm() {
  Zap(0, frames_);
  mmu_.reset();
}

void NullVm::Map(uint64_t first, uint64_t count, PageLevel max_level) {
  const MmuProgress progress = mmu_->MapRange(
      {Gfn(first), Gfn(first + count)}, {.max_level = max_level, .write = true},
      [] { return false; });
  TDP_CHECK(progress.status.ok(), "MapRange failed");
}

void NullVm::Zap(uint64_t first, uint64_t count) {
  const MmuProgress progress =
      mmu_->ZapRange({Gfn(first), Gfn(first + count)}, [] { return false; });
  TDP_CHECK(progress.status.ok(), "ZapRange failed");
}

bool NullVm::TablesInHugePages() {
  // The last entry but one names the last table.
  const std::vector<WalkedEntry> path = mmu_->WalkGfn(Gfn(frames_ - 1));
  TDP_CHECK(path.size() > 1, "no table");
  return InHugePages(reinterpret_cast<const void*>(
      path[path.size() - 2].spte.table_address()));
}

std::vector<uint64_t> ShuffledFrames(uint64_t count, uint64_t seed) {
  std::vector<uint64_t> frames(count);
  for (uint64_t i = 0; i < count; ++i) frames[i] = i;
  std::mt19937_64 random(seed);
  for (uint64_t i = count; i > 1; --i) {
    std::swap(frames[i - 1], frames[random() % i]);
  }
  return frames;
}

absl::Span<const uint64_t> Slice(const std::vector<uint64_t>& keys,
                                 int64_t slice, uint64_t count) {
  const uint64_t first =
      static_cast<uint64_t>(slice) * count % static_cast<uint64_t>(keys.size());
  return absl::MakeConstSpan(keys).subspan(first, count);
}

SecondThread::SecondThread() : thread_([this] { Run(); }) {}

SecondThread::~SecondThread() {
  Join();
  state_.store(State::kExit);
  thread_.join();
}

void SecondThread::Start(std::function<void()> work) {
  Join();
  work_ = std::move(work);
  state_.store(State::kReady);
  while (state_.load() == State::kReady) __builtin_ia32_pause();
}

void SecondThread::Join() {
  while (state_.load() != State::kIdle) __builtin_ia32_pause();
}

void SecondThread::Run() {
  PinToCpu(1);
  for (;;) {
    const State state = state_.load();
    if (state == State::kExit) return;
    if (state == State::kReady) {
      state_.store(State::kRunning);
      work_();
      state_.store(State::kIdle);
    }
    __builtin_ia32_pause();
  }
}

}  // namespace tdp::bench
