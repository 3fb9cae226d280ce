// CallLog: a line for each call that a person may want to know of, as a gate.
//
// Errors, denials and slow calls always; of calls that succeed one in 1,024, or
// all at the level debug. What is logged because of a peer is limited for each
// peer. A stream is never slow, however long it lives, and one that its caller
// cancels ended the normal way.
//
// A call that succeeds costs a reading of the clock and a counter.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_OBSERVE_CALL_LOG_H_
#define SERVER_OBSERVE_CALL_LOG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/base/log.h"
#include "server/base/monotonic_time.h"
#include "server/observe/line_limiter.h"
#include "server/observe/metric_source.h"
#include "server/observe/request_id.h"
#include "server/rpc/call_gate.h"

namespace tdp::server {

class CallLog final : public CallGate, public MetricSource {
 public:
  static constexpr absl::Duration kSlow = absl::Milliseconds(100);
  static constexpr uint32_t kSuccessesPerLine = 1024;
  static constexpr int kLinesPerSecond = 10;

  struct Options {
    // Tests have their own.
    std::function<void(Severity, absl::string_view, absl::Span<const LogField>)>
        write = LogFields;
    std::function<absl::Time()> now = absl::Now;
    // Of the limit of lines.
    MonotonicClock monotonic_now = MonotonicNanoseconds;
  };

  CallLog();
  explicit CallLog(Options options);
  CallLog(const CallLog&) = delete;
  CallLog& operator=(const CallLog&) = delete;

  absl::Status Enter(grpc::ServerContext&, CallContext&) override {
    return absl::OkStatus();
  }
  // Logs the call. Tells its caller the request id if it fails.
  void Completing(grpc::ServerContext& transport, const CallContext& context,
                  const absl::Status& status) override;
  void Leave(CallContext&, absl::StatusCode) override {}

  void Collect(std::vector<prometheus::MetricFamily>& families) const override;

 private:
  struct Line;

  std::string RequestIdOf(const grpc::ServerContext& transport);
  void Write(const Line& line, const CallContext& context,
             const absl::Status& status);

  const Options options_;
  RequestIdMaker request_ids_;
  LineLimiter limiter_{kLinesPerSecond};
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_CALL_LOG_H_
