// OverloadGate: how much one client may have the daemon do, and all of them
// together: calls under way, streams among them, frames worked on in a second,
// and answers that wait to be read.
//
// A client is a peer; those that no gate has told apart are one. What a refusal
// says names the limit, its value and the way out.
//
// No client can use up what is there for all: each with a role is let in for a
// few calls and streams, whatever the others have, and for its part of the work
// of all (see PeerUsage). Who has no role can have few of anything.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_OVERLOAD_OVERLOAD_GATE_H_
#define SERVER_OVERLOAD_OVERLOAD_GATE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/limits.h"
#include "server/base/monotonic_time.h"
#include "server/rpc/call_gate.h"

namespace tdp::server {

struct OverloadOptions {
  int64_t max_calls_per_client = limits::kMaxCallsPerClient;
  int64_t max_calls = limits::kMaxCalls;
  int64_t max_streams_per_client = limits::kMaxStreamsPerClient;
  int64_t max_streams = limits::kMaxStreams;
  int64_t max_calls_without_role = limits::kMaxCallsWithoutRole;
  int64_t max_streams_without_role = limits::kMaxStreamsWithoutRole;
  int64_t guaranteed_calls_per_client = limits::kGuaranteedCallsPerClient;
  int64_t guaranteed_streams_per_client = limits::kGuaranteedStreamsPerClient;
  int64_t max_frames_per_second_per_client =
      limits::kMaxFramesPerSecondPerClient;
  int64_t max_frames_per_second = limits::kMaxFramesPerSecond;
  int64_t work_burst_seconds = limits::kWorkBurstSeconds;
  int64_t max_unsent_bytes_per_client = limits::kMaxUnsentBytesPerClient;
};

class OverloadGate final : public CallGate {
 public:
  explicit OverloadGate(const OverloadOptions& options,
                        MonotonicClock clock = CoarseMonotonicNanoseconds);

  // Methods of no role, health and reflection, are open to a client that is in
  // debt for its work: who asks whether the daemon lives must hear it.
  absl::Status Enter(grpc::ServerContext& transport,
                     CallContext& context) override;
  void Leave(CallContext& context, absl::StatusCode code) override;

  // By the names under which GetInfo reports them.
  std::vector<std::pair<std::string, int64_t>> limits() const;

  struct Load {
    int64_t calls = 0;
    int64_t streams = 0;
    size_t clients = 0;  // that are remembered
  };
  Load load() const;

 private:
  struct Client {
    int64_t calls = 0;
    int64_t streams = 0;
    // Shared with calls: a handler may outlive its call.
    std::shared_ptr<PeerUsage> usage;
  };

  Client& ClientOf(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Check(const Client& client, const CallContext& context) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckCalls(const Client& client,
                          const CallContext& context) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckStreams(const Client& client,
                            const CallContext& context) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells all usages how many peers work, now and then.
  void CountActive() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetIdleClients() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const OverloadOptions options_;
  const std::shared_ptr<WorkOfAll> work_;
  mutable absl::Mutex mutex_;
  int64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t streams_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t counted_at_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, Client> clients_ ABSL_GUARDED_BY(mutex_);
  // So many are remembered before idle ones are looked for.
  size_t max_clients_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_OVERLOAD_OVERLOAD_GATE_H_
