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
  kTooManyConnectsOfUser,
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
  kTooMuchOfUser,
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

// What is cheap to send and dear to receive. `times` as much as a peer may do.
struct FrameBuckets {
  explicit FrameBuckets(int64_t times)
      : resets(times * guard_limits::kResetBurst,
               times * guard_limits::kResetsPerSecond),
        header_bytes(times * guard_limits::kHeaderByteBurst,
                     times * guard_limits::kHeaderBytesPerSecond),
        settings(times * guard_limits::kSettingsBurst,
                 times * guard_limits::kSettingsPerSecond),
        pings(times * guard_limits::kPingBurst,
              times * guard_limits::kPingsPerSecond),
        useless_frames(times * guard_limits::kUselessFrameBurst,
                       times * guard_limits::kUselessFramesPerSecond),
        window_updates(times * guard_limits::kWindowUpdateBurst,
                       times * guard_limits::kWindowUpdatesPerSecond),
        tiny_reads(times * guard_limits::kTinyReadBurst,
                   times * guard_limits::kTinyReadsPerSecond) {}

  bool AreFull(int64_t now);

  TokenBucket resets;
  TokenBucket header_bytes;
  TokenBucket settings;
  TokenBucket pings;
  TokenBucket useless_frames;
  TokenBucket window_updates;
  TokenBucket tiny_reads;
};

// What the processes of one user have left to spend together: a process that
// forks has no more than this.
class UserBudget {
 public:
  UserBudget() = default;
  UserBudget(const UserBudget&) = delete;
  UserBudget& operator=(const UserBudget&) = delete;

  bool Take(TokenBucket FrameBuckets::* bucket, int64_t count, int64_t now)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsUnspent(int64_t now) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  FrameBuckets frames_ ABSL_GUARDED_BY(mutex_){guard_limits::kPeersPerUser};
};

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
  FrameBuckets frames_ ABSL_GUARDED_BY(mutex_){1};
};

// What went over one connection, both ways.
class ConnectionWatch {
 public:
  // Bytes that TLS has encrypted say nothing.
  enum class Transport { kPlain, kMaybeTls };

  // `peer` and `user` outlive this; null: its user is not known.
  ConnectionWatch(PeerBudget& peer, UserBudget* user, Transport transport)
      : peer_(peer),
        user_(user),
        maybe_tls_(transport == Transport::kMaybeTls) {}
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
  // Takes from the peer and its user. `reason`, if the peer has too few.
  CutReason Take(TokenBucket FrameBuckets::* bucket, int64_t count, int64_t now,
                 CutReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  CutReason TakeOfUser(TokenBucket FrameBuckets::* bucket, int64_t count,
                       int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  // `count` more bytes of the block that is under way, and counted in it.
  CutReason TakeHeaderBytes(int64_t count, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);
  // Takes one from the credit, or else from `bucket`.
  CutReason Spend(int64_t& credit, TokenBucket FrameBuckets::* bucket,
                  int64_t now, CutReason reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(peer_.mutex_);

  PeerBudget& peer_;
  UserBudget* const user_;
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
