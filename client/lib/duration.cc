#include "client/lib/duration.h"

#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tdp::client {

absl::StatusOr<absl::Duration> ParsePositiveDuration(absl::string_view text) {
  absl::Duration duration;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds) && std::isfinite(seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &duration)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no time; write e.g. 10, 500ms, 2m"));
  }
  if (!(duration > absl::ZeroDuration())) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not positive"));
  }
  return duration;
}

}  // namespace tdp::client
