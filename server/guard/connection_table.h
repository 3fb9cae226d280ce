// ConnectionTable: the connections that this process has accepted, who is at
// their other ends, and what becomes of them.
//
// There is one for the process, because the functions that gRPC calls have no
// place for an argument (interpose.h).
//
// Thread safety: any thread. A connection's own calls are gRPC's: one that
// reads, one that writes, and a close that comes after both.

#ifndef SERVER_GUARD_CONNECTION_TABLE_H_
#define SERVER_GUARD_CONNECTION_TABLE_H_

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "server/guard/flood_limits.h"
#include "server/guard/guard_stats.h"
#include "server/guard/peer_address.h"
#include "server/guard/unix_peer.h"

namespace tdp::server {

class ConnectionTable {
 public:
  // Descriptors from here on are not let in.
  static constexpr int kMaxDescriptors = 1 << 16;

  static ConnectionTable& Get();

  // Null if the peer of the Unix socket `fd` is not known.
  using CredentialsReader =
      std::function<std::shared_ptr<const UnixCredentials>(int fd)>;

  // Asks the kernel.
  ConnectionTable();
  // For `own_user` some connections are kept, as for root.
  ConnectionTable(CredentialsReader read_credentials, uid_t own_user);
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  // Watches the connection `fd` from now on; `address` is its peer's, and is
  // replaced by one that FindCredentials() knows if it is a Unix socket's.
  // False if it must be closed instead.
  bool Admit(int fd, sockaddr_storage* address, socklen_t* length)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // A connection was refused because there were no descriptors for it.
  void NoteNoDescriptors();

  bool IsWatched(int fd) const { return Find(fd) != nullptr; }
  // A connection that is watched, over a Unix socket.
  bool IsUnix(int fd) const;
  // What was read from `fd`, if it is watched: the first `count` bytes of
  // `message`. False if the connection is cut off.
  bool NoteReceived(int fd, const msghdr& message, size_t count);
  // What was written to it.
  void NoteSent(int fd, const msghdr& message, size_t count);
  // Nothing could be written to it, because its peer reads nothing.
  void NoteStalled(int fd);
  // Cuts off the connections that have been stalled for too long. To be called
  // every now and then.
  void Sweep() ABSL_LOCKS_EXCLUDED(mutex_);
  // `fd` is about to be closed.
  void Forget(int fd) ABSL_LOCKS_EXCLUDED(mutex_);

  // Null if there is no such connection.
  std::shared_ptr<const UnixCredentials> FindCredentials(uint64_t number) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  GuardStats stats() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Peer;
  struct User;
  struct Connection;

  Connection* Find(int fd) const {
    if (fd < 0 || fd >= kMaxDescriptors) return nullptr;
    return slots_[fd].load(std::memory_order_acquire);
  }
  // `user` and `credentials` are null on TCP.
  CutReason Admission(Peer& peer, User* user,
                      const UnixCredentials* credentials, int64_t now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Peer> PeerOf(const PeerKey& key, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<User> UserOf(uid_t uid, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetOldPeers(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetOldUsers(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Punish(Peer& peer, int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Count(CutReason reason, const UnixCredentials* credentials);

  const CredentialsReader read_credentials_;
  const uid_t own_user_;

  // Each is set by Admit(), and cleared by Forget(), which frees it; that holds
  // the mutex, for Sweep().
  std::array<std::atomic<Connection*>, kMaxDescriptors> slots_ = {};
  std::array<std::atomic<int64_t>, static_cast<size_t>(CutReason::kCount)>
      cuts_ = {};
  std::atomic<int64_t> accepted_ = 0;
  std::atomic<int64_t> ended_stalled_ = 0;
  StreamTotal streams_;
  // Of the second that log lines are counted in, and how many it had.
  std::atomic<int64_t> log_second_ = 0;
  std::atomic<int64_t> log_lines_ = 0;

  mutable absl::Mutex mutex_;
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t connections_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t tcp_connections_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, std::shared_ptr<const UnixCredentials>>
      credentials_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uid_t, std::shared_ptr<User>> users_
      ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<PeerKey, std::shared_ptr<Peer>> peers_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_GUARD_CONNECTION_TABLE_H_
