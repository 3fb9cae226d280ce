#include "server/guard/flood_limits.h"

#include <algorithm>

#include "engine/base/limits.h"

namespace tdp::server {
namespace {

// A TLS record that carries a handshake.
constexpr uint8_t kTlsHandshake = 0x16;
constexpr size_t kFrameHeaderBytes = 9;
// A client that reads sends an update for the stream and one for the
// connection, and may measure the round trip.
constexpr int64_t kWindowUpdatesPerFrame = 2;
constexpr int64_t kMaxCredit = 10000;

// How these limits, which cut off, stand to those that refuse a call politely.
// A peer that keeps to the streams of a connection has five connections free.
static_assert(guard_limits::kMaxOpenStreamsPerPeer ==
              5 * limits::kMaxStreamsPerConnection);
// A client of two processes or more meets the limit of its calls first,
static_assert(2 * guard_limits::kMaxOpenStreamsPerPeer >
              limits::kMaxCallsPerClient);
// and there is room for two that are at it.
static_assert(guard_limits::kMaxOpenStreams >= 2 * limits::kMaxCallsPerClient);
// The processes that fill a user's connections can do so with all their bursts.
static_assert(guard_limits::kMaxConnectionsPerUser ==
              guard_limits::kPeersPerUser *
                  guard_limits::kMaxConnectionsPerPeer);
// One whole connection can be canceled.
static_assert(guard_limits::kResetBurst > limits::kMaxStreamsPerConnection);

}  // namespace

absl::string_view NameOf(CutReason reason) {
  switch (reason) {
    case CutReason::kNone:
    case CutReason::kCount:
      break;
    case CutReason::kTooManyConnections:
      return "too_many_connections";
    case CutReason::kTooManyTcpConnections:
      return "too_many_tcp_connections";
    case CutReason::kTooManyConnectionsOfUser:
      return "too_many_connections_of_user";
    case CutReason::kTooManyConnectionsOfPeer:
      return "too_many_connections_of_peer";
    case CutReason::kTooManyConnects:
      return "too_many_connects";
    case CutReason::kTooManyConnectsOfUser:
      return "too_many_connects_of_user";
    case CutReason::kPenalty:
      return "penalty";
    case CutReason::kNoDescriptors:
      return "no_descriptors";
    case CutReason::kUnknownPeer:
      return "unknown_peer";
    case CutReason::kNotHttp2:
      return "not_http2";
    case CutReason::kFrameTooLong:
      return "frame_too_long";
    case CutReason::kHeaderBlockTooLong:
      return "header_block_too_long";
    case CutReason::kTooManyContinuations:
      return "too_many_continuations";
    case CutReason::kTooManyOpenStreams:
      return "too_many_open_streams";
    case CutReason::kTooManyOpenStreamsInAll:
      return "too_many_open_streams_in_all";
    case CutReason::kTooMuchOfUser:
      return "too_much_of_user";
    case CutReason::kTooManyStreams:
      return "too_many_streams";
    case CutReason::kTooManyResets:
      return "too_many_resets";
    case CutReason::kTooManyHeaderBytes:
      return "too_many_header_bytes";
    case CutReason::kTooManySettings:
      return "too_many_settings";
    case CutReason::kTooManyPings:
      return "too_many_pings";
    case CutReason::kTooManyUselessFrames:
      return "too_many_useless_frames";
    case CutReason::kTooManyWindowUpdates:
      return "too_many_window_updates";
    case CutReason::kTooManyTinyReads:
      return "too_many_tiny_reads";
    case CutReason::kReadsNothing:
      return "reads_nothing";
  }
  return "none";
}

bool IsCutOff(CutReason reason) {
  return reason >= CutReason::kNotHttp2 && reason < CutReason::kCount;
}

bool FrameBuckets::AreFull(int64_t now) {
  return resets.IsFull(now) && header_bytes.IsFull(now) &&
         settings.IsFull(now) && pings.IsFull(now) &&
         useless_frames.IsFull(now) && window_updates.IsFull(now) &&
         tiny_reads.IsFull(now);
}

bool UserBudget::Take(TokenBucket FrameBuckets::* bucket, int64_t count,
                      int64_t now) {
  absl::MutexLock lock(&mutex_);
  return (frames_.*bucket).Take(count, now);
}

bool UserBudget::IsUnspent(int64_t now) {
  absl::MutexLock lock(&mutex_);
  return frames_.AreFull(now);
}

bool PeerBudget::IsUnspent(int64_t now) {
  absl::MutexLock lock(&mutex_);
  return open_streams_ == 0 && streams_.IsFull(now) && frames_.AreFull(now);
}

ConnectionWatch::~ConnectionWatch() {
  absl::MutexLock lock(&peer_.mutex_);
  const auto count = static_cast<int64_t>(open_.size());
  peer_.open_streams_ -= count;
  peer_.total_.open.fetch_sub(count, std::memory_order_relaxed);
}

CutReason ConnectionWatch::Received(const uint8_t* bytes, size_t count,
                                    int64_t now) {
  if (count == 0) return CutReason::kNone;
  if (maybe_tls_) {
    maybe_tls_ = false;
    if (bytes[0] == kTlsHandshake) {
      is_tls_.store(true, std::memory_order_relaxed);
    }
  }
  if (is_tls_.load(std::memory_order_relaxed)) return CutReason::kNone;
  absl::MutexLock lock(&peer_.mutex_);
  if (verdict_ != CutReason::kNone) return verdict_;
  const bool fine = received_.Scan(bytes, count, [&](const FrameHeader& frame) {
    peer_.mutex_.AssertHeld();
    verdict_ = Judge(frame, now);
    return verdict_ == CutReason::kNone;
  });
  if (!fine && verdict_ == CutReason::kNone) verdict_ = CutReason::kNotHttp2;
  return verdict_;
}

void ConnectionWatch::Sent(const uint8_t* bytes, size_t count) {
  if (is_tls_.load(std::memory_order_relaxed)) return;
  absl::MutexLock lock(&peer_.mutex_);
  sent_.Scan(bytes, count, [&](const FrameHeader& frame) {
    peer_.mutex_.AssertHeld();
    NoteSent(frame);
    return true;
  });
}

CutReason ConnectionWatch::ReadReturned(size_t count, int64_t now) {
  if (count >= kFrameHeaderBytes) return CutReason::kNone;
  absl::MutexLock lock(&peer_.mutex_);
  if (verdict_ == CutReason::kNone) {
    verdict_ =
        Take(&FrameBuckets::tiny_reads, 1, now, CutReason::kTooManyTinyReads);
  }
  return verdict_;
}

CutReason ConnectionWatch::Judge(const FrameHeader& frame, int64_t now) {
  if (frame.type != FrameType::kData &&
      frame.length > guard_limits::kMaxControlFrameBytes) {
    return CutReason::kFrameTooLong;
  }
  switch (frame.type) {
    case FrameType::kHeaders:
      return JudgeHeaders(frame, now);
    case FrameType::kContinuation:
      return JudgeContinuation(frame, now);
    case FrameType::kResetStream:
      return JudgeReset(frame, now);
    case FrameType::kSettings:
      if (frame.Has(FrameHeader::kAck)) return JudgeAck(now);
      return Take(&FrameBuckets::settings, 1, now, CutReason::kTooManySettings);
    case FrameType::kPing:
      if (frame.Has(FrameHeader::kAck)) return JudgeAck(now);
      return Spend(ping_credit_, &FrameBuckets::pings, now,
                   CutReason::kTooManyPings);
    case FrameType::kWindowUpdate:
      return Spend(window_update_credit_, &FrameBuckets::window_updates, now,
                   CutReason::kTooManyWindowUpdates);
    case FrameType::kData:
      if (frame.length > 0 || frame.Has(FrameHeader::kEndStream)) {
        return CutReason::kNone;
      }
      break;
    case FrameType::kGoAway:
    case FrameType::kPriority:
    case FrameType::kPushPromise:
    default:
      break;
  }
  return Take(&FrameBuckets::useless_frames, 1, now,
              CutReason::kTooManyUselessFrames);
}

CutReason ConnectionWatch::JudgeReset(const FrameHeader& frame, int64_t now) {
  if (CloseStream(frame.stream_id)) {
    return Take(&FrameBuckets::resets, 1, now, CutReason::kTooManyResets);
  }
  // Clients that are told the end of a call before they have sent all of it
  // reset the stream, too: that costs nothing any more.
  return Spend(reset_credit_, &FrameBuckets::useless_frames, now,
               CutReason::kTooManyUselessFrames);
}

CutReason ConnectionWatch::JudgeAck(int64_t now) {
  return Spend(ack_credit_, &FrameBuckets::useless_frames, now,
               CutReason::kTooManyUselessFrames);
}

CutReason ConnectionWatch::JudgeHeaders(const FrameHeader& frame, int64_t now) {
  header_block_bytes_ = frame.length;
  continuations_ = 0;
  if (header_block_bytes_ > guard_limits::kMaxHeaderBlockBytes) {
    return CutReason::kHeaderBlockTooLong;
  }
  if (const CutReason reason = TakeHeaderBytes(frame.length, now);
      reason != CutReason::kNone) {
    return reason;
  }
  if (!peer_.streams_.Take(1, now)) return CutReason::kTooManyStreams;
  // Trailers, or nonsense that gRPC answers.
  if (frame.stream_id <= last_stream_id_) return CutReason::kNone;
  last_stream_id_ = frame.stream_id;

  const int64_t mine = peer_.open_streams_;
  const int64_t all = peer_.total_.open.load(std::memory_order_relaxed);
  if (mine >= guard_limits::kMaxOpenStreamsPerPeer) {
    return CutReason::kTooManyOpenStreams;
  }
  if (all >= guard_limits::kMaxOpenStreams &&
      mine >= guard_limits::kGuaranteedStreamsPerPeer) {
    return CutReason::kTooManyOpenStreamsInAll;
  }
  open_.insert(frame.stream_id);
  ++peer_.open_streams_;
  peer_.total_.open.fetch_add(1, std::memory_order_relaxed);
  return CutReason::kNone;
}

CutReason ConnectionWatch::JudgeContinuation(const FrameHeader& frame,
                                             int64_t now) {
  header_block_bytes_ += frame.length;
  ++continuations_;
  if (continuations_ > guard_limits::kMaxContinuationsPerBlock) {
    return CutReason::kTooManyContinuations;
  }
  if (header_block_bytes_ > guard_limits::kMaxHeaderBlockBytes) {
    return CutReason::kHeaderBlockTooLong;
  }
  return TakeHeaderBytes(frame.length, now);
}

CutReason ConnectionWatch::TakeHeaderBytes(int64_t count, int64_t now) {
  constexpr auto kBucket = &FrameBuckets::header_bytes;
  if (!(peer_.frames_.*kBucket).Take(count, now)) {
    return CutReason::kTooManyHeaderBytes;
  }
  // The headers of usual calls are no flood, and spare each call a lock.
  if (header_block_bytes_ <= guard_limits::kUsualHeaderBytes) {
    return CutReason::kNone;
  }
  const bool first =
      header_block_bytes_ - count <= guard_limits::kUsualHeaderBytes;
  return TakeOfUser(kBucket, first ? header_block_bytes_ : count, now);
}

void ConnectionWatch::NoteSent(const FrameHeader& frame) {
  switch (frame.type) {
    case FrameType::kData:
    case FrameType::kHeaders:
      window_update_credit_ =
          std::min(window_update_credit_ + kWindowUpdatesPerFrame, kMaxCredit);
      ping_credit_ = std::min(ping_credit_ + 1, kMaxCredit);
      if (frame.Has(FrameHeader::kEndStream)) EndStream(frame.stream_id);
      break;
    case FrameType::kResetStream:
      EndStream(frame.stream_id);
      break;
    case FrameType::kSettings:
    case FrameType::kPing:
      ack_credit_ = std::min(ack_credit_ + 1, kMaxCredit);
      break;
    default:
      break;
  }
}

void ConnectionWatch::EndStream(uint32_t id) {
  // Of the frames that end a stream, the first explains one reset.
  if (!CloseStream(id)) return;
  reset_credit_ = std::min(reset_credit_ + 1, kMaxCredit);
}

bool ConnectionWatch::CloseStream(uint32_t id) {
  if (open_.erase(id) == 0) return false;
  --peer_.open_streams_;
  peer_.total_.open.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

CutReason ConnectionWatch::Take(TokenBucket FrameBuckets::* bucket,
                                int64_t count, int64_t now, CutReason reason) {
  if (!(peer_.frames_.*bucket).Take(count, now)) return reason;
  return TakeOfUser(bucket, count, now);
}

CutReason ConnectionWatch::TakeOfUser(TokenBucket FrameBuckets::* bucket,
                                      int64_t count, int64_t now) {
  return user_ == nullptr || user_->Take(bucket, count, now)
             ? CutReason::kNone
             : CutReason::kTooMuchOfUser;
}

CutReason ConnectionWatch::Spend(int64_t& credit,
                                 TokenBucket FrameBuckets::* bucket,
                                 int64_t now, CutReason reason) {
  if (credit == 0) return Take(bucket, 1, now, reason);
  --credit;
  return CutReason::kNone;
}

}  // namespace tdp::server
