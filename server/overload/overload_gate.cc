#include "server/overload/overload_gate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp::server {
namespace {

constexpr size_t kMinRememberedClients = 256;
// A call takes less.
constexpr absl::Duration kCallDelay = absl::Milliseconds(100);

uint64_t ClientIdOf(const CallContext& context) {
  return context.peer() == nullptr ? 0 : context.peer()->id;
}

WorkBucket BucketOf(int64_t rate, int64_t burst_seconds) {
  const auto tokens = static_cast<double>(rate);
  return WorkBucket(tokens, tokens * static_cast<double>(burst_seconds));
}

absl::Status WorkError(absl::string_view limit, int64_t value,
                       absl::Duration delay) {
  return LimitError(
      limit, value,
      absl::StrCat(
          "the work of earlier calls has to be paid off first; try "
          "again in ",
          absl::FormatDuration(absl::Ceil(delay, absl::Milliseconds(1)))),
      // Never none: a debt of less than a token is one.
      std::max(delay, absl::Milliseconds(1)));
}

}  // namespace

OverloadGate::Client::Client(const OverloadOptions& options, PeerUsage* all)
    : work(BucketOf(options.max_frames_per_second_per_client,
                    options.work_burst_seconds)),
      usage(std::make_shared<PeerUsage>(all,
                                        options.max_unsent_bytes_per_client)) {}

OverloadGate::OverloadGate(const OverloadOptions& options)
    : options_(options),
      work_(
          BucketOf(options.max_frames_per_second, options.work_burst_seconds)),
      max_clients_(kMinRememberedClients) {}

absl::Status OverloadGate::Enter(grpc::ServerContext&, CallContext& context) {
  absl::MutexLock lock(&mutex_);
  Client& client = ClientOf(ClientIdOf(context), context.start_time());
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
  Client& client = *clients_.find(ClientIdOf(context))->second;
  --client.calls;
  --calls_;
  if (context.method().is_stream) {
    --client.streams;
    --streams_;
  }
}

absl::Status OverloadGate::Check(Client& client, const CallContext& context) {
  constexpr absl::string_view kWaitForAnswers =
      "wait for answers before sending more calls";
  constexpr absl::string_view kCloseStreams =
      "close streams that are no longer needed";
  if (client.calls >= options_.max_calls_per_client) {
    return LimitError("max_calls_per_client", options_.max_calls_per_client,
                      kWaitForAnswers, kCallDelay);
  }
  // Whoever asks whether the daemon lives must hear it.
  const bool is_question_of_health = context.method().role == Role::kNone;
  if (calls_ >= options_.max_calls && !is_question_of_health) {
    return LimitError("max_calls", options_.max_calls, kWaitForAnswers,
                      kCallDelay);
  }
  if (context.method().is_stream) {
    if (client.streams >= options_.max_streams_per_client) {
      return LimitError("max_streams_per_client",
                        options_.max_streams_per_client, kCloseStreams);
    }
    if (streams_ >= options_.max_streams) {
      return LimitError("max_streams", options_.max_streams, kCloseStreams);
    }
  }
  absl::Status status = client.usage->CheckUnsent();
  if (status.ok() && !is_question_of_health) {
    status = CheckWork(client, context.start_time());
  }
  return status;
}

absl::Status OverloadGate::CheckWork(Client& client, absl::Time now) {
  client.work.FillUntil(now);
  client.work.Take(client.usage->TakeWork());
  work_.FillUntil(now);
  work_.Take(usage_.TakeWork());
  if (client.work.in_debt()) {
    return WorkError("max_frames_per_second_per_client",
                     options_.max_frames_per_second_per_client,
                     client.work.Delay());
  }
  if (work_.in_debt()) {
    return WorkError("max_frames_per_second", options_.max_frames_per_second,
                     work_.Delay());
  }
  return absl::OkStatus();
}

OverloadGate::Client& OverloadGate::ClientOf(uint64_t id, absl::Time now) {
  if (const auto it = clients_.find(id); it != clients_.end()) {
    return *it->second;
  }
  if (clients_.size() >= max_clients_) ForgetIdleClients(now);
  return *clients_.emplace(id, std::make_unique<Client>(options_, &usage_))
              .first->second;
}

// A client that comes back then finds a full bucket, which is what it had.
void OverloadGate::ForgetIdleClients(absl::Time now) {
  absl::erase_if(clients_, [now](auto& entry) {
    Client& client = *entry.second;
    client.work.FillUntil(now);
    client.work.Take(client.usage->TakeWork());
    return client.calls == 0 && client.work.full();
  });
  max_clients_ = std::max(kMinRememberedClients, 2 * clients_.size());
}

std::vector<std::pair<std::string, int64_t>> OverloadGate::limits() const {
  return {
      {"max_calls_per_client", options_.max_calls_per_client},
      {"max_calls", options_.max_calls},
      {"max_streams_per_client", options_.max_streams_per_client},
      {"max_streams", options_.max_streams},
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
