#include "server/overload/overload_gate.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"

namespace tdp::server {
namespace {

constexpr size_t kMinRememberedClients = 256;
// A call takes less.
constexpr absl::Duration kCallDelay = absl::Milliseconds(100);
constexpr int64_t kCountIntervalNanoseconds = 100'000'000;

uint64_t ClientIdOf(const CallContext& context) {
  return context.peer() == nullptr ? 0 : context.peer()->id;
}

bool HasRole(const CallContext& context) {
  return context.peer() != nullptr && context.peer()->role != Role::kNone;
}

}  // namespace

OverloadGate::OverloadGate(const OverloadOptions& options, MonotonicClock clock)
    : options_(options),
      work_(std::make_shared<WorkOfAll>(
          WorkLimits{
              .frames_per_second_of_peer =
                  options.max_frames_per_second_per_client,
              .frames_per_second = options.max_frames_per_second,
              .burst_seconds = options.work_burst_seconds,
          },
          std::move(clock))),
      max_clients_(kMinRememberedClients) {}

absl::Status OverloadGate::Enter(grpc::ServerContext&, CallContext& context) {
  absl::MutexLock lock(&mutex_);
  Client& client = ClientOf(ClientIdOf(context));
  CountActive();
  absl::Status status = Check(client, context);
  if (!status.ok()) return status;
  ++client.calls;
  ++calls_;
  if (context.method().is_stream) {
    ++client.streams;
    ++streams_;
  }
  context.set_usage(client.usage);
  return status;
}

void OverloadGate::Leave(CallContext& context, absl::StatusCode) {
  absl::MutexLock lock(&mutex_);
  // A client with calls under way is never forgotten.
  Client& client = clients_.find(ClientIdOf(context))->second;
  --client.calls;
  --calls_;
  if (context.method().is_stream) {
    --client.streams;
    --streams_;
  }
}

absl::Status OverloadGate::Check(const Client& client,
                                 const CallContext& context) const {
  absl::Status status = CheckCalls(client, context);
  if (status.ok() && context.method().is_stream) {
    status = CheckStreams(client, context);
  }
  if (status.ok()) status = client.usage->CheckUnsent();
  // Whoever asks whether the daemon lives must hear it.
  if (status.ok() && context.method().role != Role::kNone) {
    status = client.usage->CheckWork();
  }
  return status;
}

absl::Status OverloadGate::CheckCalls(const Client& client,
                                      const CallContext& context) const {
  constexpr absl::string_view kWayOut =
      "wait for answers before sending more calls";
  if (client.calls >= options_.max_calls_per_client) {
    return LimitError("max_calls_per_client", options_.max_calls_per_client,
                      kWayOut, kCallDelay);
  }
  const bool has_role = HasRole(context);
  if (!has_role && client.calls >= options_.max_calls_without_role) {
    return LimitError("max_calls_without_role", options_.max_calls_without_role,
                      kWayOut, kCallDelay);
  }
  const bool is_question_of_health =
      context.method().role == Role::kNone && !context.method().is_stream;
  const bool is_guaranteed =
      has_role && client.calls < options_.guaranteed_calls_per_client;
  if (calls_ >= options_.max_calls && !is_question_of_health &&
      !is_guaranteed) {
    return LimitError("max_calls", options_.max_calls, kWayOut, kCallDelay);
  }
  return absl::OkStatus();
}

absl::Status OverloadGate::CheckStreams(const Client& client,
                                        const CallContext& context) const {
  constexpr absl::string_view kWayOut =
      "close streams that are no longer needed";
  if (client.streams >= options_.max_streams_per_client) {
    return LimitError("max_streams_per_client", options_.max_streams_per_client,
                      kWayOut);
  }
  const bool has_role = HasRole(context);
  if (!has_role && client.streams >= options_.max_streams_without_role) {
    return LimitError("max_streams_without_role",
                      options_.max_streams_without_role, kWayOut);
  }
  const bool is_guaranteed =
      has_role && client.streams < options_.guaranteed_streams_per_client;
  if (streams_ >= options_.max_streams && !is_guaranteed) {
    return LimitError("max_streams", options_.max_streams, kWayOut);
  }
  return absl::OkStatus();
}

OverloadGate::Client& OverloadGate::ClientOf(uint64_t id) {
  if (const auto it = clients_.find(id); it != clients_.end()) {
    return it->second;
  }
  if (clients_.size() >= max_clients_) ForgetIdleClients();
  Client& client = clients_[id];
  client.usage =
      std::make_shared<PeerUsage>(work_, options_.max_unsent_bytes_per_client);
  return client;
}

void OverloadGate::CountActive() {
  const int64_t now = work_->Now();
  if (now < counted_at_ + kCountIntervalNanoseconds) return;
  counted_at_ = now;
  const auto active = std::count_if(
      clients_.begin(), clients_.end(),
      [now](const auto& entry) { return entry.second.usage->IsActive(now); });
  work_->set_active_peers(std::max<int64_t>(active, 1));
}

// A client that comes back then finds a full bucket, which is what it had.
void OverloadGate::ForgetIdleClients() {
  const int64_t now = work_->Now();
  absl::erase_if(clients_, [now](const auto& entry) {
    return entry.second.calls == 0 && entry.second.usage->IsPaidFor(now);
  });
  max_clients_ = std::max(kMinRememberedClients, 2 * clients_.size());
}

std::vector<std::pair<std::string, int64_t>> OverloadGate::limits() const {
  return {
      {"max_calls_per_client", options_.max_calls_per_client},
      {"max_calls", options_.max_calls},
      {"max_streams_per_client", options_.max_streams_per_client},
      {"max_streams", options_.max_streams},
      {"max_calls_without_role", options_.max_calls_without_role},
      {"max_streams_without_role", options_.max_streams_without_role},
      {"guaranteed_calls_per_client", options_.guaranteed_calls_per_client},
      {"guaranteed_streams_per_client", options_.guaranteed_streams_per_client},
      {"max_frames_per_second_per_client",
       options_.max_frames_per_second_per_client},
      {"max_frames_per_second", options_.max_frames_per_second},
      {"work_burst_seconds", options_.work_burst_seconds},
      {"max_unsent_bytes_per_client", options_.max_unsent_bytes_per_client},
  };
}

OverloadGate::Load OverloadGate::load() const {
  absl::MutexLock lock(&mutex_);
  return {.calls = calls_, .streams = streams_, .clients = clients_.size()};
}

}  // namespace tdp::server
