#include "engine/memory/idle_ages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr uint32_t kMaxAgeMs = uint32_t{1} << 31;

// Never 0, which stands for no time.
uint32_t Milliseconds(absl::Duration time) {
  const uint32_t ms = static_cast<uint32_t>(absl::ToInt64Milliseconds(time));
  return ms == 0 ? 1 : ms;
}

}  // namespace

absl::StatusOr<IdleAges::Times> IdleAges::Times::Create(uint64_t count) {
  const uint64_t bytes = count * sizeof(uint32_t);
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    return MakeError(ErrorReason::kHostMemoryExhausted,
                     absl::StrCat("the host has no room for ", bytes,
                                  " bytes of idle ages (", strerror(errno),
                                  "); delete memslots"),
                     {{"sizeBytes", absl::StrCat(bytes)}});
  }
  return Times(static_cast<uint32_t*>(start), bytes);
}

IdleAges::Times::~Times() {
  if (times_ != nullptr) munmap(times_, bytes_);
}

absl::Status IdleAges::Keep() {
  MutexLock lock(mutex_);
  if (scans_.has_value()) return absl::OkStatus();
  absl::StatusOr<LazyBitmap> words = LazyBitmap::Create(frame_count_);
  if (!words.ok()) return words.status();
  absl::StatusOr<Times> times = Times::Create(frame_count_);
  if (!times.ok()) return times.status();
  if (!client_words_.has_value()) {
    absl::StatusOr<LazyBitmap> client = LazyBitmap::Create(frame_count_);
    if (!client.ok()) return client.status();
    client_words_.emplace(*std::move(client));
  }
  scans_.emplace(Scans{*std::move(words), *std::move(times)});
  return absl::OkStatus();
}

void IdleAges::Drop() {
  MutexLock lock(mutex_);
  scans_.reset();
}

void IdleAges::LeaveWord(uint64_t first, uint64_t end) {
  client_words_->Set(first, end);
  if (scans_.has_value()) scans_->words.Set(first, end);
}

bool IdleAges::HasWord(Reader reader, uint64_t first, uint64_t end) const {
  bool value = false;
  return WordsOf(reader).Prefix(first, end, &value) < end - first || value;
}

void IdleAges::TakeWord(Reader reader, uint64_t first, uint64_t end) {
  WordsOf(reader).Clear(first, end);
}

void IdleAges::SetLastUse(uint64_t first, uint64_t end, absl::Duration time) {
  std::fill(&scans_->times[first], &scans_->times[first] + (end - first),
            Milliseconds(time));
}

std::optional<absl::Duration> IdleAges::IdleAge(uint64_t first, uint64_t end,
                                                absl::Duration now) {
  const uint32_t now_ms = Milliseconds(now);
  uint32_t youngest = std::numeric_limits<uint32_t>::max();
  bool found = false;
  for (uint64_t i = first; i < end; ++i) {
    uint32_t& time = scans_->times[i];
    if (time == 0) continue;
    uint32_t age = now_ms - time;  // modulo 2^32
    if (age > kMaxAgeMs) {
      // Stays so old, before the difference overflows.
      age = kMaxAgeMs;
      time = Milliseconds(now - kMaxAge);
    }
    youngest = std::min(youngest, age);
    found = true;
  }
  if (!found) return std::nullopt;
  return absl::Milliseconds(youngest);
}

}  // namespace tdp
