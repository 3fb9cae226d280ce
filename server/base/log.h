// Log lines on stderr, one event each:
//
//   2024-03-01T12:00:00.000Z warning "KVM is missing" hint="load kvm_intel"
//
// Thread safety: any thread; a line is written by one write(2), so that lines
// never mix.

#ifndef SERVER_BASE_LOG_H_
#define SERVER_BASE_LOG_H_

#include <initializer_list>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tdp::server {

enum class Severity { kInfo, kWarning, kError };

// A named value of a line. Both live until the call returns.
struct LogField {
  absl::string_view key;
  absl::string_view value;
};

void Log(Severity severity, absl::string_view message,
         std::initializer_list<LogField> fields = {});

// The line that Log() writes, with its newline.
std::string FormatLogLine(absl::Time time, Severity severity,
                          absl::string_view message,
                          std::initializer_list<LogField> fields);

}  // namespace tdp::server

#endif  // SERVER_BASE_LOG_H_
