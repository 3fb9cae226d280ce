#include "server/base/log.h"

#include <unistd.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tdp::server {
namespace {

absl::string_view NameOf(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "unknown";
}

}  // namespace

std::string FormatLogLine(absl::Time time, Severity severity,
                          absl::string_view message,
                          std::initializer_list<LogField> fields) {
  std::string line = absl::StrCat(
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()), " ",
      NameOf(severity), " \"", absl::Utf8SafeCEscape(message), "\"");
  for (const LogField& field : fields) {
    absl::StrAppend(&line, " ", field.key, "=\"",
                    absl::Utf8SafeCEscape(field.value), "\"");
  }
  line.push_back('\n');
  return line;
}

void Log(Severity severity, absl::string_view message,
         std::initializer_list<LogField> fields) {
  const std::string line =
      FormatLogLine(absl::Now(), severity, message, fields);
  // A log that cannot be written has nobody left to be told.
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace tdp::server
