#include "server/rpc/rpc_server.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/server_builder.h"
#include "server/rpc/unknown_method_call.h"

namespace tdp::server {
namespace {

// For calls that were cut off to notice it, and for their statuses to leave.
constexpr absl::Duration kCutOffLimit = absl::Seconds(1);

}  // namespace

namespace {

// What gRPC itself does about clients that do nothing, or nothing useful.
void AddTransportLimits(grpc::ServerBuilder& builder) {
  // A connection must come to its SETTINGS, with TLS and all.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             static_cast<int>(limits::kHandshakeTimeoutMs));
  // A client that is gone without a word, or that does not answer, makes room;
  // whether it has calls or not, and however long nothing else is sent.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(limits::kKeepaliveTimeMs));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(limits::kKeepaliveTimeoutMs));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A client may ask as often whether we are there; gRPC's own default of five
  // minutes would send clients away that watch for events.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      static_cast<int>(limits::kKeepaliveTimeoutMs));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                             static_cast<int>(limits::kMaxMetadataBytes));
}

// gRPC compares a request with max_request_bytes before it inflates it: four
// megabytes of zeros, compressed, would become four gigabytes.
void RefuseCompression(grpc::ServerBuilder& builder) {
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
}

}  // namespace

int64_t RpcServer::MinBytesPerRound(const Options& options) {
  const double bytes = static_cast<double>(options.min_read_bytes_per_second) *
                       absl::ToDoubleSeconds(RoundOf(options));
  return std::max<int64_t>(1, static_cast<int64_t>(bytes));
}

RpcServer::RpcServer(const Options& options, Executor& executor)
    : options_(options),
      core_(executor, options.default_deadline, MinBytesPerRound(options),
            options.gates) {
  methods_.push_back(
      Method{{.name = "(unknown)", .role = Role::kNone},
             [this](const Method& method, ServerCore& core,
                    grpc::ServerCompletionQueue& cq) -> std::shared_ptr<Call> {
               return std::make_shared<UnknownMethodCall>(method, core, cq,
                                                          unknown_methods_);
             }});
}

RpcServer::~RpcServer() = default;

std::vector<MethodTraits> RpcServer::method_traits() const {
  std::vector<MethodTraits> traits;
  for (const Method& method : methods_) traits.push_back(method.traits);
  return traits;
}

absl::Status RpcServer::Start(const std::vector<RpcListener>& listeners,
                              std::vector<int>* ports) {
  grpc::ServerBuilder builder;
  std::vector<int> bound(listeners.size(), 0);
  for (size_t i = 0; i < listeners.size(); ++i) {
    builder.AddListeningPort(listeners[i].address, listeners[i].credentials,
                             &bound[i]);
  }
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(options_.max_request_bytes));
  // Two daemons must not share a TCP port by accident.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(
      GRPC_ARG_MAX_CONCURRENT_STREAMS,
      static_cast<int>(options_.max_streams_per_connection));
  // Nobody asks for the counts that gRPC keeps of every call.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  RefuseCompression(builder);
  AddTransportLimits(builder);
  for (const auto& service : services_) builder.RegisterService(service.get());
  builder.RegisterAsyncGenericService(&unknown_methods_);
  for (int i = 0; i < options_.poller_count; ++i) {
    queues_.push_back(builder.AddCompletionQueue());
    probes_.emplace_back();
  }
  server_ = builder.BuildAndStart();

  absl::Status status;
  for (size_t i = 0; i < listeners.size() && status.ok(); ++i) {
    if (bound[i] == 0) {
      status = InternalError(
          absl::StrCat("cannot listen on ", listeners[i].address,
                       "; it may be in use, or not allowed to this user, or "
                       "its certificates are unusable"),
          {{"address", listeners[i].address}});
    }
  }
  if (status.ok() && server_ == nullptr) {
    status = InternalError("gRPC could not start a server");
  }
  if (!status.ok()) {
    if (server_ != nullptr) {
      server_->Shutdown();
      for (const auto& queue : queues_) queue->Shutdown();
      for (size_t i = 0; i < queues_.size(); ++i) Poll(*queues_[i], probes_[i]);
    }
    server_.reset();
    queues_.clear();
    probes_.clear();
    return status;
  }

  if (ports != nullptr) *ports = bound;
  for (const auto& queue : queues_) {
    for (const Method& method : methods_) {
      method.new_call(method, core_, *queue)->Listen();
    }
  }
  for (size_t i = 0; i < queues_.size(); ++i) {
    pollers_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), absl::StrCat("tdpd-poll-", i).c_str());
      Poll(*queues_[i], probes_[i]);
    });
  }
  sweeper_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tdpd-sweep");
    while (!stopping_.WaitForNotificationWithTimeout(RoundOf(options_))) {
      CutOffSlowReaders();
    }
  });
  return absl::OkStatus();
}

void RpcServer::AskPollers(std::function<void()> answered) {
  auto left = std::make_shared<std::atomic<size_t>>(queues_.size());
  for (size_t i = 0; i < queues_.size(); ++i) {
    probes_[i].Ask(*queues_[i], [left, answered] {
      if (left->fetch_sub(1, std::memory_order_acq_rel) == 1) answered();
    });
  }
}

void RpcServer::BeginDrain() { core_.BeginDrain(); }

bool RpcServer::WaitUntilIdle(absl::Time deadline) {
  return core_.WaitUntilIdle(deadline);
}

void RpcServer::Shutdown() {
  if (server_ == nullptr) return;
  core_.BeginDrain();
  stopping_.Notify();
  sweeper_.join();
  // What gRPC cancels ends without a reason.
  core_.CutOffAll();
  core_.WaitUntilIdle(absl::Now() + kCutOffLimit);
  // Returns when every call is gone, so that no call asks for its successor
  // any more: a queue that is shut down must not be given operations.
  server_->Shutdown(std::chrono::system_clock::now());
  core_.WaitUntilIdle(absl::InfiniteFuture());
  for (const auto& queue : queues_) queue->Shutdown();
  for (std::thread& poller : pollers_) poller.join();
  pollers_.clear();
  server_.reset();
  queues_.clear();
  probes_.clear();
}

void RpcServer::Poll(grpc::ServerCompletionQueue& cq, PollerProbe& probe) {
  void* tag = nullptr;
  bool ok = false;
  while (cq.Next(&tag, &ok)) {
    if (tag == &probe) {
      probe.Answer();
      continue;
    }
    static_cast<Completion*>(tag)->Run(ok);
  }
}

}  // namespace tdp::server
