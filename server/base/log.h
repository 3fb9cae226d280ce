// Log lines on stderr, one event each, as key=value or as JSON:
//
//   time=2024-03-01T12:00:00.000Z level=warning msg="KVM is missing" hint="x y"
//   {"time":"2024-03-01T12:00:00.000Z","level":"warning","msg":"KVM is ..."}
//
// What a value holds cannot end its line, forge a field or steer a terminal:
// all but printable ASCII is escaped.
//
// Lines are written at once until StartLogThread(). From then on a thread
// writes them from a bounded queue: a caller never waits for who reads the log.
// When the queue is full, the oldest line goes, and is counted.
//
// Thread safety: any thread; StartLogThread() once, before lines matter. A line
// is written by one write(2), so that lines never mix.

#ifndef SERVER_BASE_LOG_H_
#define SERVER_BASE_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace tdp::server {

enum class Severity { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// A named value of a line. Both live until the call returns.
struct LogField {
  absl::string_view key;
  absl::string_view value;
};

// Lines the log may hold that nobody has written yet.
inline constexpr int kMaxQueuedLogLines = 4096;

// What is written. Info and above, as text, until this is called.
void SetLogLevel(Severity lowest);
void SetLogFormat(LogFormat format);
// False, with nothing changed, for a text that names none.
bool ParseSeverity(absl::string_view text, Severity* severity);
bool ParseLogFormat(absl::string_view text, LogFormat* format);

// Whether a line of this severity is written: ask before building a costly one.
bool IsLogged(Severity severity);

void Log(Severity severity, absl::string_view message,
         std::initializer_list<LogField> fields = {});
void LogFields(Severity severity, absl::string_view message,
               absl::Span<const LogField> fields);

// Hands the writing to a thread, for as long as the process lives. The thread
// inherits the caller's signal mask.
void StartLogThread();
// Waits until what was logged before is written, `limit` at most: before the
// process ends, or before it writes to stderr by other means.
void FlushLog(absl::Duration limit = absl::Seconds(1));
// Lines that left a full queue unwritten.
int64_t DroppedLogLineCount();

// The line that Log() writes, with its newline.
std::string FormatLogLine(LogFormat format, absl::Time time, Severity severity,
                          absl::string_view message,
                          absl::Span<const LogField> fields);

}  // namespace tdp::server

#endif  // SERVER_BASE_LOG_H_
