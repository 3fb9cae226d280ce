#include "client/lib/retry.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "client/lib/call_error.h"
#include "tdp/v1/error.pb.h"

namespace tdp::client {
namespace {

// Marks errors of calls that never reached a daemon; stays in this process.
constexpr char kNobodyListensUrl[] = "tdpd.client/nobody-listens";

// A try that finds nobody is cheap, and a daemon that has just started should
// not be kept waiting. The channel makes fewer attempts to connect than this.
constexpr absl::Duration kMaxLonelyBackoff = absl::Milliseconds(500);

// As enum value; UNSPECIFIED for a reason of a newer daemon.
v1::ErrorReason ReasonOf(const v1::ErrorInfo& info) {
  v1::ErrorReason reason = v1::ERROR_REASON_UNSPECIFIED;
  v1::ErrorReason_Parse(absl::StrCat("ERROR_REASON_", info.reason()), &reason);
  return reason;
}

// Before another try, after so many that failed in the same way.
absl::Duration Backoff(const RetryOptions& options, int tries, double random) {
  const int doublings = std::min(tries - 1, 30);
  const absl::Duration full = std::min(
      options.max_backoff, options.first_backoff * std::exp2(doublings));
  return full * (0.5 + random / 2);
}

}  // namespace

double RetryClock::RandomFraction() {
  thread_local std::minstd_rand generator{std::random_device()()};
  return std::generate_canonical<double, 32>(generator);
}

absl::Status NobodyListensError(absl::string_view message) {
  absl::Status status = absl::UnavailableError(message);
  status.SetPayload(kNobodyListensUrl, absl::Cord());
  return status;
}

Advice AdviceOf(const absl::Status& error) {
  if (error.GetPayload(kNobodyListensUrl)) return Advice::kRetryIfWaiting;
  const bool has_delay = RetryDelayOf(error).has_value();
  const auto info = ErrorInfoOf(error);
  const v1::ErrorReason reason =
      info ? ReasonOf(*info) : v1::ERROR_REASON_UNSPECIFIED;
  switch (reason) {
    case v1::ERROR_REASON_OPERATION_CONFLICT:
    case v1::ERROR_REASON_LIMIT_REACHED:
      return has_delay ? Advice::kRetry : Advice::kGiveUp;
    case v1::ERROR_REASON_STREAM_TOO_SLOW:
      return Advice::kRetryIfIdempotent;
    case v1::ERROR_REASON_UNSPECIFIED:
      return has_delay || absl::IsUnavailable(error)
                 ? Advice::kRetryIfIdempotent
                 : Advice::kGiveUp;
    default:
      return has_delay ? Advice::kRetryIfIdempotent : Advice::kGiveUp;
  }
}

bool Retries::WaitForNextTry(const absl::Status& error, Effect effect) {
  const Advice advice = AdviceOf(error);
  absl::Duration wait;
  if (advice == Advice::kRetryIfWaiting) {
    if (!options_.wait_for_daemon) return false;
    ++lonely_tries_;
    wait = std::min(kMaxLonelyBackoff,
                    Backoff(options_, lonely_tries_, clock_.random()));
  } else {
    const bool may =
        advice == Advice::kRetry ||
        (advice == Advice::kRetryIfIdempotent && effect == Effect::kIdempotent);
    const int tries = tries_ - lonely_tries_;
    if (!may || tries >= options_.max_tries) return false;
    wait = RetryDelayOf(error).value_or(absl::ZeroDuration()) +
           Backoff(options_, tries, clock_.random());
  }
  // An error now says more than a missed deadline later.
  if (wait >= remaining()) return false;
  ++tries_;
  clock_.sleep(wait);
  return true;
}

absl::Status Retries::Final(const absl::Status& error) const {
  if (tries_ == 1) return error;
  return WithSuffix(error, absl::StrCat(" (tried ", tries_, " times)"));
}

}  // namespace tdp::client
