#include "server/rpc/peer_usage.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tdp::server {
namespace {

constexpr int64_t kActiveNanoseconds = 1'000'000'000;
// More than any host has, and small enough to be multiplied.
constexpr int64_t kMaxFrames = int64_t{1} << 48;

WorkLimits LimitsOf(const WorkOfAll* all) {
  return all == nullptr ? WorkLimits{1, 1, 0} : all->limits();
}

absl::Status WorkError(absl::string_view limit, int64_t value,
                       absl::Duration delay) {
  return LimitError(
      limit, value,
      absl::StrCat(
          "the work of earlier calls has to be paid off first; try "
          "again in ",
          absl::FormatDuration(absl::Ceil(delay, absl::Milliseconds(1)))),
      // Never none: a debt of less than a token is one.
      std::max(delay, absl::Milliseconds(1)));
}

}  // namespace

PeerUsage::PeerUsage(std::shared_ptr<WorkOfAll> all, int64_t max_unsent_bytes)
    : all_(std::move(all)),
      max_unsent_bytes_(max_unsent_bytes),
      own_(LimitsOf(all_.get()).frames_per_second_of_peer,
           LimitsOf(all_.get()).burst_seconds),
      part_(LimitsOf(all_.get()).frames_per_second,
            LimitsOf(all_.get()).burst_seconds) {}

void PeerUsage::AddWork(int64_t frames) {
  if (all_ == nullptr || frames <= 0) return;
  frames = std::min(frames, kMaxFrames);
  const int64_t now = all_->Now();
  worked_at_.store(now, std::memory_order_relaxed);
  own_.Take(now, frames);
  part_.Take(now, frames * all_->active_peers());
  all_->bucket().Take(now, frames);
}

absl::Status PeerUsage::CheckWork() const {
  if (all_ == nullptr) return absl::OkStatus();
  const int64_t now = all_->Now();
  if (const absl::Duration delay = own_.Delay(now);
      delay > absl::ZeroDuration()) {
    return WorkError("max_frames_per_second_per_client",
                     all_->limits().frames_per_second_of_peer, delay);
  }
  const absl::Duration delay =
      std::min(all_->bucket().Delay(now), part_.Delay(now));
  if (delay > absl::ZeroDuration()) {
    return WorkError("max_frames_per_second", all_->limits().frames_per_second,
                     delay);
  }
  return absl::OkStatus();
}

bool PeerUsage::IsActive(int64_t now) const {
  const int64_t worked_at = worked_at_.load(std::memory_order_relaxed);
  return worked_at >= now - kActiveNanoseconds;
}

}  // namespace tdp::server
