// The limits of the HTTP/2 guard. GetInfo reports them by name.
//
// They are far above what clients do that mean well, and low enough for the
// memory that gRPC spends within them: a reset or an open stream costs it some
// 10 KiB, an idle connection some 30 KiB. Where a limit has a burst and a rate,
// a peer may do so much at once, and earns more with time.
//
// A peer is a process at a Unix socket (a user, if its process is not to be
// seen), and an address on TCP.

#ifndef SERVER_GUARD_GUARD_LIMITS_H_
#define SERVER_GUARD_GUARD_LIMITS_H_

#include <cstdint>

namespace tdp::server::guard_limits {

// Connections: in all, on TCP, of one user of this host, of one peer.
inline constexpr int64_t kMaxConnections = 1024;
inline constexpr int64_t kMaxTcpConnections = 512;
inline constexpr int64_t kMaxConnectionsPerUser = 768;
inline constexpr int64_t kMaxConnectionsPerPeer = 128;
// Of all, those that only root and the daemon's own user get, at the Unix
// socket: whoever is to put things right finds room.
inline constexpr int64_t kReservedConnections = 64;
// Attempts of one peer to connect.
inline constexpr int64_t kConnectBurst = 128;
inline constexpr int64_t kConnectsPerSecond = 50;
// All processes of a user together may do as much as so many of them: connect,
// cancel, and send what carries nothing. A process that forks gains that, and
// no more.
inline constexpr int64_t kPeersPerUser = 6;

// Streams that are open, whoever has to go on. So many in all are what memory
// allows. A peer has what five connections can: a client that keeps to the
// settings of its connections must open a sixth to meet this limit.
inline constexpr int64_t kMaxOpenStreams = 4096;
inline constexpr int64_t kMaxOpenStreamsPerPeer = 1280;
// So many each peer may have open even when all that there are are taken. Who
// has more is cut off then, but without a penalty: it has broken no limit of
// its own.
inline constexpr int64_t kGuaranteedStreamsPerPeer = 64;

// Streams that the peer opens; far more than the daemon can serve.
inline constexpr int64_t kStreamBurst = 100000;
inline constexpr int64_t kStreamsPerSecond = 100000;
// Streams that the peer cancels: all that one connection can have, and some.
// While gRPC works them off, some 50 us each, others wait: 15 ms at once, and
// with all streams of a peer it would be 64 ms, once for each process that
// attacks. So a peer whose deadlines end more than 300 calls of several
// connections in one moment is cut off; those calls have failed anyhow, and it
// connects again after a second.
inline constexpr int64_t kResetBurst = 300;
inline constexpr int64_t kResetsPerSecond = 100;
// Bytes of headers, as sent; and of the headers of one call.
inline constexpr int64_t kHeaderByteBurst = int64_t{1} << 20;
inline constexpr int64_t kHeaderBytesPerSecond = int64_t{4} << 20;
inline constexpr int64_t kMaxHeaderBlockBytes = int64_t{16} << 10;
inline constexpr int64_t kMaxContinuationsPerBlock = 8;
// Longer ones are counted for the user, too.
inline constexpr int64_t kUsualHeaderBytes = 1024;

// Frames that ask for an answer and carry nothing.
inline constexpr int64_t kSettingsBurst = 100;
inline constexpr int64_t kSettingsPerSecond = 10;
inline constexpr int64_t kPingBurst = 1000;
inline constexpr int64_t kPingsPerSecond = 100;
// Frames of priority or of unknown types, empty data.
inline constexpr int64_t kUselessFrameBurst = 1000;
inline constexpr int64_t kUselessFramesPerSecond = 100;
// Window updates beyond those that the daemon's own frames explain.
inline constexpr int64_t kWindowUpdateBurst = 10000;
inline constexpr int64_t kWindowUpdatesPerSecond = 1000;
// Reads that return less than a frame's header.
inline constexpr int64_t kTinyReadBurst = 1000;
inline constexpr int64_t kTinyReadsPerSecond = 100;

// Of frames other than data, whose length gRPC bounds itself.
inline constexpr int64_t kMaxControlFrameBytes = 16384;

// A peer that takes nothing of what the daemon writes is cut off after this
// time. gRPC's own keepalive waits for the write.
inline constexpr int64_t kMaxStalledWriteMs = 10000;

// A peer that broke a limit may connect again after this time, which doubles
// each time until it is the longest one.
inline constexpr int64_t kFirstPenaltyMs = 1000;
inline constexpr int64_t kLongestPenaltyMs = 60000;
// Peers that are remembered.
inline constexpr int64_t kMaxPeers = 8192;

struct NamedLimit {
  const char* name;
  int64_t value;
};
inline constexpr NamedLimit kAll[] = {
    {"guard_max_connections", kMaxConnections},
    {"guard_max_tcp_connections", kMaxTcpConnections},
    {"guard_max_connections_per_user", kMaxConnectionsPerUser},
    {"guard_max_connections_per_peer", kMaxConnectionsPerPeer},
    {"guard_reserved_connections", kReservedConnections},
    {"guard_connect_burst", kConnectBurst},
    {"guard_connects_per_second", kConnectsPerSecond},
    {"guard_peers_per_user", kPeersPerUser},
    {"guard_max_open_streams", kMaxOpenStreams},
    {"guard_max_open_streams_per_peer", kMaxOpenStreamsPerPeer},
    {"guard_guaranteed_streams_per_peer", kGuaranteedStreamsPerPeer},
    {"guard_stream_burst", kStreamBurst},
    {"guard_streams_per_second", kStreamsPerSecond},
    {"guard_reset_burst", kResetBurst},
    {"guard_resets_per_second", kResetsPerSecond},
    {"guard_header_byte_burst", kHeaderByteBurst},
    {"guard_header_bytes_per_second", kHeaderBytesPerSecond},
    {"guard_max_header_block_bytes", kMaxHeaderBlockBytes},
    {"guard_max_continuations_per_block", kMaxContinuationsPerBlock},
    {"guard_usual_header_bytes", kUsualHeaderBytes},
    {"guard_settings_burst", kSettingsBurst},
    {"guard_settings_per_second", kSettingsPerSecond},
    {"guard_ping_burst", kPingBurst},
    {"guard_pings_per_second", kPingsPerSecond},
    {"guard_useless_frame_burst", kUselessFrameBurst},
    {"guard_useless_frames_per_second", kUselessFramesPerSecond},
    {"guard_window_update_burst", kWindowUpdateBurst},
    {"guard_window_updates_per_second", kWindowUpdatesPerSecond},
    {"guard_tiny_read_burst", kTinyReadBurst},
    {"guard_tiny_reads_per_second", kTinyReadsPerSecond},
    {"guard_max_control_frame_bytes", kMaxControlFrameBytes},
    {"guard_max_stalled_write_ms", kMaxStalledWriteMs},
    {"guard_first_penalty_ms", kFirstPenaltyMs},
    {"guard_longest_penalty_ms", kLongestPenaltyMs},
    {"guard_max_peers", kMaxPeers},
};

}  // namespace tdp::server::guard_limits

#endif  // SERVER_GUARD_GUARD_LIMITS_H_
