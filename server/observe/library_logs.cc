#include "server/observe/library_logs.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"
#include "server/base/log.h"
#include "server/base/monotonic_time.h"
#include "server/observe/line_limiter.h"

namespace tdp::server {
namespace {

constexpr size_t kMaxTextBytes = 300;
// Shorter ones are sizes, flags and error numbers.
constexpr size_t kMinAddressDigits = 8;
constexpr int kLinesPerSecond = 10;

enum class Library : uint64_t { kGrpc = 1, kProtobuf = 2 };

void LogFor(Library library, Severity severity, absl::string_view text) {
  if (!IsLogged(severity)) return;
  // The libraries' handlers are plain functions. Never destroyed: threads of
  // theirs log until the process ends.
  static LineLimiter& limiter = *new LineLimiter(kLinesPerSecond);
  const LineLimiter::Answer answer =
      limiter.Ask(static_cast<uint64_t>(library), MonotonicNanoseconds());
  if (!answer.admitted) return;
  const absl::string_view message =
      library == Library::kGrpc ? "gRPC says" : "protobuf says";
  const std::string clean = WithoutAddresses(text);
  if (answer.left_out == 0) {
    Log(severity, message, {{"text", clean}});
  } else {
    Log(severity, message,
        {{"text", clean}, {"left_out", absl::StrCat(answer.left_out)}});
  }
}

void LogForGrpc(gpr_log_func_args* args) {
  LogFor(Library::kGrpc,
         args->severity == GPR_LOG_SEVERITY_ERROR ? Severity::kWarning
                                                  : Severity::kDebug,
         args->message);
}

void LogForProtobuf(google::protobuf::LogLevel level, const char*, int,
                    const std::string& message) {
  LogFor(Library::kProtobuf,
         level >= google::protobuf::LOGLEVEL_ERROR ? Severity::kWarning
                                                   : Severity::kInfo,
         message);
}

}  // namespace

void RouteLibraryLogs() {
  gpr_set_log_function(LogForGrpc);
  google::protobuf::SetLogHandler(LogForProtobuf);
}

std::string WithoutAddresses(absl::string_view text) {
  const bool cut = text.size() > kMaxTextBytes;
  text = text.substr(0, kMaxTextBytes);
  std::string clean;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i, 2) != "0x") {
      clean.push_back(text[i++]);
      continue;
    }
    size_t end = i + 2;
    while (end < text.size() &&
           absl::ascii_isxdigit(static_cast<unsigned char>(text[end]))) {
      ++end;
    }
    const bool is_address = end - i - 2 >= kMinAddressDigits;
    absl::StrAppend(&clean, is_address ? "0x..." : text.substr(i, end - i));
    i = end;
  }
  if (cut) clean += "...";
  return clean;
}

}  // namespace tdp::server
