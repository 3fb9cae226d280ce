// When a failed call is made again: the table of errors in proto/README.md, as
// code.
//
//   error                                    again
//   OPERATION_CONFLICT, LIMIT_REACHED with   any call: it was refused before it
//   a RetryInfo                              changed anything
//   any other with a RetryInfo; UNAVAILABLE  idempotent calls (effect.h), for
//   from nobody (the connection broke)       the first may have taken effect
//   STREAM_TOO_SLOW                          streams that go on where they were
//   nobody listens                           any call, if `wait_for_daemon`,
//                                            until its deadline
//   all others                               never: they need a decision
//
// Thread safety: free functions on values; a Retries belongs to one call.

#ifndef CLIENT_LIB_RETRY_H_
#define CLIENT_LIB_RETRY_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/lib/effect.h"

namespace tdp::client {

struct RetryOptions {
  // Of one call, or of one piece of a ranged call, or of a stream since its
  // last message. 1 means that nothing is repeated. Tries that found nobody do
  // not count.
  int max_tries = 5;
  // Before the second try; doubles with each further one. The daemon's
  // RetryInfo, where there is one, comes on top: it is the earliest time.
  absl::Duration first_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(5);
  // Whether to try again where nobody listens, until the deadline of the call:
  // for ever, if it has none. Otherwise a daemon that is not there shows at
  // once.
  bool wait_for_daemon = false;
};

// Time, as the retries see it; tests have their own.
struct RetryClock {
  std::function<absl::Time()> now = absl::Now;
  std::function<void(absl::Duration)> sleep = absl::SleepFor;
  // In [0, 1); keeps clients that failed together from coming back together.
  std::function<double()> random = RandomFraction;

  static double RandomFraction();
};

enum class Advice { kGiveUp, kRetryIfIdempotent, kRetry, kRetryIfWaiting };

// What an error says about another try.
Advice AdviceOf(const absl::Status& error);
// An error of a call that never reached a daemon.
absl::Status NobodyListensError(absl::string_view message);

// The tries of one call.
class Retries {
 public:
  // No try begins at or after `deadline`.
  Retries(const RetryOptions& options, const RetryClock& clock,
          absl::Time deadline)
      : options_(options), clock_(clock), deadline_(deadline) {}

  // What is left until the deadline.
  absl::Duration remaining() const { return deadline_ - clock_.now(); }

  // After a try that failed: waits for the next one, or says that there is to
  // be none.
  bool WaitForNextTry(const absl::Status& error, Effect effect);
  // The call got further, so its tries are counted anew.
  void NoteProgress() {
    tries_ = 1;
    lonely_tries_ = 0;
  }

  // The error of the last try, with the number of tries if there were several.
  absl::Status Final(const absl::Status& error) const;

 private:
  const RetryOptions& options_;
  const RetryClock& clock_;
  const absl::Time deadline_;
  int tries_ = 1;
  // Those of them that found nobody.
  int lonely_tries_ = 0;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_RETRY_H_
