#include "server/services/stream_progress.h"

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp::server {

absl::Status WithProgress(const absl::Status& status, absl::string_view key,
                          int64_t done, absl::string_view rest) {
  if (status.ok()) return status;
  ErrorDetail detail = DetailOf(status).value_or(ErrorDetail());
  ErrorMetadata metadata;
  for (auto& [name, value] : detail.metadata) {
    int64_t in_message = 0;
    if (name != key) {
      metadata.emplace_back(std::move(name), std::move(value));
    } else if (absl::SimpleAtoi(value, &in_message)) {
      done += in_message;
    }
  }
  metadata.emplace_back(std::string(key), absl::StrCat(done));
  return MakeError(detail.reason,
                   absl::StrCat(absl::string_view(status.message()), " (", done,
                                " ", rest, ")"),
                   std::move(metadata));
}

}  // namespace tdp::server
