#include "server/base/log.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "spdlog/async.h"
#include "spdlog/async_logger.h"
#include "spdlog/sinks/sink.h"

namespace tdp::server {
namespace {

constexpr std::pair<Severity, absl::string_view> kSeverities[] = {
    {Severity::kDebug, "debug"},
    {Severity::kInfo, "info"},
    {Severity::kWarning, "warning"},
    {Severity::kError, "error"},
};

absl::string_view NameOf(Severity severity) {
  return kSeverities[static_cast<size_t>(severity)].second;
}

bool IsPrintable(char c) { return c >= ' ' && c <= '~'; }

// Values that need no quotes: they hold nothing that ends or splits one.
bool IsBare(absl::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        absl::string_view("._:/+-").find(c) == absl::string_view::npos) {
      return false;
    }
  }
  return true;
}

void AppendText(absl::string_view value, std::string* line) {
  if (IsBare(value)) {
    absl::StrAppend(line, value);
  } else {
    absl::StrAppend(line, "\"", absl::CHexEscape(value), "\"");
  }
}

void AppendJson(absl::string_view value, std::string* line) {
  line->push_back('"');
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      line->push_back('\\');
      line->push_back(c);
    } else if (IsPrintable(c)) {
      line->push_back(c);
    } else {
      absl::StrAppend(
          line, "\\u",
          absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad4));
    }
  }
  line->push_back('"');
}

void WriteLine(absl::string_view line) {
  // A log that cannot be written has nobody left to be told.
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, line.data(), line.size());
}

// Writes lines as they are, and knows how many flushes it has seen.
class StderrSink final : public spdlog::sinks::sink {
 public:
  void log(const spdlog::details::log_msg& message) override {
    WriteLine({message.payload.data(), message.payload.size()});
  }
  void flush() override {
    absl::MutexLock lock(&mutex_);
    ++flush_count_;
  }
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

  int64_t flush_count() const {
    absl::MutexLock lock(&mutex_);
    return flush_count_;
  }
  // Waits until there were more than `count`.
  void AwaitFlush(int64_t count, absl::Duration limit) const {
    const auto flushed = [this, count]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return flush_count_ > count;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&flushed), limit);
  }

 private:
  mutable absl::Mutex mutex_;
  int64_t flush_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The queue and its thread.
struct LogThread {
  std::shared_ptr<StderrSink> sink = std::make_shared<StderrSink>();
  std::shared_ptr<spdlog::details::thread_pool> pool =
      std::make_shared<spdlog::details::thread_pool>(kMaxQueuedLogLines, 1, [] {
        pthread_setname_np(pthread_self(), "tdpd-log");
      });
  std::shared_ptr<spdlog::async_logger> logger =
      std::make_shared<spdlog::async_logger>(
          "tdpd", sink, pool, spdlog::async_overflow_policy::overrun_oldest);
};

// The one state of the process that is not passed along: every thread logs,
// until the last instruction. The thread is never ended, so that no line can
// come too late for it.
std::atomic<Severity> g_level = Severity::kInfo;
std::atomic<LogFormat> g_format = LogFormat::kText;
std::atomic<LogThread*> g_thread = nullptr;

}  // namespace

void SetLogLevel(Severity lowest) { g_level.store(lowest); }
void SetLogFormat(LogFormat format) { g_format.store(format); }

bool ParseSeverity(absl::string_view text, Severity* severity) {
  for (const auto& [value, name] : kSeverities) {
    if (text != name) continue;
    *severity = value;
    return true;
  }
  return false;
}

bool ParseLogFormat(absl::string_view text, LogFormat* format) {
  if (text != "text" && text != "json") return false;
  *format = text == "text" ? LogFormat::kText : LogFormat::kJson;
  return true;
}

bool IsLogged(Severity severity) {
  // Relaxed: orders nothing.
  return severity >= g_level.load(std::memory_order_relaxed);
}

std::string FormatLogLine(LogFormat format, absl::Time time, Severity severity,
                          absl::string_view message,
                          absl::Span<const LogField> fields) {
  const std::string when =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
  std::string line;
  if (format == LogFormat::kJson) {
    absl::StrAppend(&line, "{\"time\":\"", when, "\",\"level\":\"",
                    NameOf(severity), "\",\"msg\":");
    AppendJson(message, &line);
    for (const LogField& field : fields) {
      absl::StrAppend(&line, ",\"", field.key, "\":");
      AppendJson(field.value, &line);
    }
    line.push_back('}');
  } else {
    absl::StrAppend(&line, "time=", when, " level=", NameOf(severity), " msg=");
    AppendText(message, &line);
    for (const LogField& field : fields) {
      absl::StrAppend(&line, " ", field.key, "=");
      AppendText(field.value, &line);
    }
  }
  line.push_back('\n');
  return line;
}

void Log(Severity severity, absl::string_view message,
         std::initializer_list<LogField> fields) {
  LogFields(severity, message, fields);
}

void LogFields(Severity severity, absl::string_view message,
               absl::Span<const LogField> fields) {
  if (!IsLogged(severity)) return;
  const std::string line =
      FormatLogLine(g_format.load(std::memory_order_relaxed), absl::Now(),
                    severity, message, fields);
  const LogThread* const thread = g_thread.load(std::memory_order_acquire);
  if (thread == nullptr) {
    WriteLine(line);
  } else {
    thread->logger->log(spdlog::level::info,
                        spdlog::string_view_t(line.data(), line.size()));
  }
}

void StartLogThread() {
  if (g_thread.load() == nullptr) g_thread.store(new LogThread);
}

void FlushLog(absl::Duration limit) {
  const LogThread* const thread = g_thread.load(std::memory_order_acquire);
  if (thread == nullptr) return;
  const int64_t count = thread->sink->flush_count();
  thread->logger->flush();
  thread->sink->AwaitFlush(count, limit);
}

int64_t DroppedLogLineCount() {
  const LogThread* const thread = g_thread.load(std::memory_order_acquire);
  return thread == nullptr
             ? 0
             : static_cast<int64_t>(thread->pool->overrun_counter());
}

}  // namespace tdp::server
