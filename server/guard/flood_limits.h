// FloodLimits: what one peer may do, and what one connection did; cuts off
// connections that break a limit.
//
// Thread safety: all connections of a peer share its mutex.

#ifndef SERVER_GUARD_FLOOD_LIMITS_H_
#define SERVER_GUARD_FLOOD_LIMITS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/base/token_bucket.h"
#include "server/guard/frame_scanner.h"
#include "server/guard/guard_limits.h"

namespace tdp::server {

// Why a connection was cut off or not let in.
enum class CutReason {
  kNone,
  // Not let in.
  kTooManyConnections,
  kTooManyTcpConnections,
  kTooManyConnectionsOfUser,
  kTooManyConnectionsOfPeer,
  kTooManyConnects,
  kPenalty,
  kNoDescriptors,
  kUnknownPeer,
  // Cut off.
  kNotHttp2,
  kFrameTooLong,
  kHeaderBlockTooLong,
  kTooManyContinuations,
  kTooManyOpenStreams,
  kTooManyOpenStreamsInAll,
  kTooManyStreams,
  kTooManyResets,
  kTooManyHeaderBytes,
  kTooManySettings,
  kTooManyPings,
  kTooManyUselessFrames,
  kTooManyWindowUpdates,
  kTooManyTinyReads,
  kReadsNothing,
  kCount,
};

// "too_many_resets".
absl::string_view NameOf(CutReason reason);
// The connection was let in before.
bool IsCutOff(CutReason reason);

// The streams that all peers have open.
struct StreamTotal {
  std::atomic<int64_t> open = 0;
};

// What a peer has left to spend, over all its connections.
class PeerBudget {
 public:
  explicit PeerBudget(StreamTotal& total) : total_(total) {}
  PeerBudget(const PeerBudget&) = delete;
  PeerBudget& operator=(const PeerBudget&) = delete;

  // It is as if it were new: it can be forgotten.
  bool IsUnspent(int64_t now) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class ConnectionWatch;

  absl::Mutex mutex_;
  StreamTotal& total_;
  int64_t open_streams_ ABSL_GUARDED_BY(mutex_) = 0;
  TokenBucket streams_ ABSL_GUARDED_BY(mutex_){guard_limits::kStreamBurst,
                                               guard_limits::kStreamsPerSecond};
  TokenBucket resets_ ABSL_GUARDED_BY(mutex_){guard_limits::kResetBurst,
                                              guard_limits::kResetsPerSecond};
  TokenBucket header_bytes_ ABSL_GUARDED_BY(mutex_){
      guard_limits::kHeaderByteBurst, guard_limits::kHeaderBytesPerSecond};
  TokenBucket settings_ ABSL_GUARDED_BY(mutex_){
      guard_limits::kSettingsBurst, guard_limits::kSettingsPerSecond};
  TokenBucket pings_ ABSL_GUARDED_BY(mutex_){guard_limits::kPingBurst,
                                             guard_limits::kPingsPerSecond};
  TokenBucket useless_frames_ ABSL_GUARDED_BY(mutex_){
      guard_limits::kUselessFrameBurst, guard_limits::kUselessFramesPerSecond};
  TokenBucket window_updates_ ABSL_GUARDED_BY(mutex_){
      guard_limits::kWindowUpdateBurst, guard_limits::kWindowUpdatesPerSecond};
  TokenBucket tiny_reads_ ABSL_GUARDED_BY(mutex_){
      guard_limits::kTinyReadBurst, guard_limits::kTinyReadsPerSecond};
};

// What went over one connection, both ways.
class ConnectionWatch {
 public:
  // Bytes that TLS has encrypted say nothing.
  enum class Transport { kPlain, kMaybeTls };

  // `peer` outlives this.
  ConnectionWatch(PeerBudget& peer, Transport transport)
      : peer_(peer), maybe_tls_(transport == Transport::kMaybeTls) {}
  ConnectionWatch(const ConnectionWatch&) = delete;
  ConnectionWatch& operator=(const ConnectionWatch&) = delete;
  // Its streams are open no more.
  ~ConnectionWatch() ABSL_LOCKS_EXCLUDED(peer_.mutex_);

  // What is wrong with `count` bytes that came in. Once something is wrong, all
  // that follows is.
  CutReason Received(const uint8_t* bytes, size_t count, int64_t now)
      ABSL_LOCKS_EXCLUDED(peer_.mutex_);
  // Bytes went out.
  void Sent(const uint8_t* bytes, size_t count)
      ABSL_LOCKS_EXCLUDED(peer_.mutex_);
  // One read returned `count` bytes in all.
  CutReason ReadReturned(size_t count, int64_t now)
      ABSL_LOCKS_EXCLUDED(peer_.mutex_);

 private:
  CutReason Judge(const FrameHeader& frame, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  CutReason JudgeAck(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  CutReason JudgeHeaders(const FrameHeader& frame, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  CutReason JudgeContinuation(const FrameHeader& frame, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  void NoteSent(const FrameHeader& frame)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  CutReason JudgeReset(const FrameHeader& frame, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  // The server is done with the stream.
  void EndStream(uint32_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  // False if it was not open.
  bool CloseStream(uint32_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  // Takes from the credit, or else from `bucket`.
  static bool Spend(int64_t& credit, TokenBucket& bucket, int64_t now);

  PeerBudget& peer_;
  // By the thread that reads.
  bool maybe_tls_;
  // By the threads that read and write: own synchronization.
  std::atomic<bool> is_tls_ = false;
  CutReason verdict_ ABSL_GUARDED_BY(peer_.mutex_) = CutReason::kNone;
  FrameScanner received_ ABSL_GUARDED_BY(peer_.mutex_){
      FrameScanner::Start::kPreface};
  FrameScanner sent_ ABSL_GUARDED_BY(peer_.mutex_){FrameScanner::Start::kFrame};
  absl::flat_hash_set<uint32_t> open_ ABSL_GUARDED_BY(peer_.mutex_);
  uint32_t last_stream_id_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
  int64_t header_block_bytes_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
  int64_t continuations_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
  // Window updates, pings, acknowledgements and resets that the frames that
  // went out explain.
  int64_t window_update_credit_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
  int64_t ping_credit_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
  int64_t ack_credit_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
  int64_t reset_credit_ ABSL_GUARDED_BY(peer_.mutex_) = 0;
};

}  // namespace tdp::server

#endif  // SERVER_GUARD_FLOOD_LIMITS_H_
