#include "server/guard/connection_table.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/base/monotonic_time.h"
#include "server/base/token_bucket.h"
#include "server/guard/guard_limits.h"

// Too new for the C library.
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

namespace tdp::server {
namespace {

using guard_limits::kFirstPenaltyMs;
using guard_limits::kLongestPenaltyMs;

constexpr int64_t kMillisecond = 1000000;
constexpr int64_t kSecond = 1000 * kMillisecond;
constexpr int64_t kLogLinesPerSecond = 10;

// Fine for rates.
int64_t Now() { return CoarseMonotonicNanoseconds(); }

// Null if the kernel does not tell.
std::shared_ptr<const UnixCredentials> ReadCredentials(int fd) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return nullptr;
  }
  auto credentials = std::make_shared<UnixCredentials>();
  credentials->uid = peer.uid;
  credentials->gid = peer.gid;
  credentials->pid = peer.pid;
  // The first call says how many there are.
  length = 0;
  getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length);
  credentials->groups.resize(length / sizeof(gid_t));
  if (length > 0 && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS,
                               credentials->groups.data(), &length) != 0) {
    return nullptr;
  }
  return credentials;
}

// Processes outside of the daemon's PID namespace have no number that it could
// tell them apart by.
PeerKey KeyOf(const UnixCredentials& credentials) {
  return credentials.pid > 0 ? PeerKey::OfProcess(credentials.pid)
                             : PeerKey::OfUser(credentials.uid);
}

// Calls `visit(bytes, count)` for the first `count` bytes of `message`.
template <typename Visit>
void ForEachPiece(const msghdr& message, size_t count, Visit&& visit) {
  for (size_t i = 0; i < message.msg_iovlen && count > 0; ++i) {
    const size_t piece = std::min(count, message.msg_iov[i].iov_len);
    visit(static_cast<const uint8_t*>(message.msg_iov[i].iov_base), piece);
    count -= piece;
  }
}

}  // namespace

// All connections of one process, user or address.
struct ConnectionTable::Peer {
  explicit Peer(StreamTotal& streams) : budget(streams) {}

  PeerBudget budget;
  // Guarded by the table's mutex.
  TokenBucket connects{guard_limits::kConnectBurst,
                       guard_limits::kConnectsPerSecond};
  int64_t connections = 0;
  int64_t penalty_ms = 0;  // the last one
  int64_t penalty_end = 0;
};

// All processes of one user of this host.
struct ConnectionTable::User {
  UserBudget budget;
  // Guarded by the table's mutex.
  TokenBucket connects{
      guard_limits::kPeersPerUser * guard_limits::kConnectBurst,
      guard_limits::kPeersPerUser* guard_limits::kConnectsPerSecond};
  int64_t connections = 0;
};

struct ConnectionTable::Connection {
  Connection(std::shared_ptr<Peer> peer, std::shared_ptr<User> user,
             ConnectionWatch::Transport transport)
      : peer(std::move(peer)),
        user(std::move(user)),
        watch(this->peer->budget,
              this->user == nullptr ? nullptr : &this->user->budget,
              transport) {}

  const std::shared_ptr<Peer> peer;
  const std::shared_ptr<User> user;                    // null on TCP
  uint64_t number = 0;                                 // 0 on TCP
  std::shared_ptr<const UnixCredentials> credentials;  // null on TCP
  ConnectionWatch watch;
  bool is_cut = false;  // by the thread that reads
  // Since when nothing can be written; 0 if something can.
  std::atomic<int64_t> stalled_at = 0;
};

ConnectionTable& ConnectionTable::Get() {
  // Never destroyed: descriptors are closed until the process ends.
  static auto& table = *new ConnectionTable();
  return table;
}

ConnectionTable::ConnectionTable()
    : ConnectionTable(&ReadCredentials, geteuid()) {}

ConnectionTable::ConnectionTable(CredentialsReader read_credentials,
                                 uid_t own_user)
    : read_credentials_(std::move(read_credentials)), own_user_(own_user) {}

bool ConnectionTable::Admit(int fd, sockaddr_storage* address,
                            socklen_t* length) {
  const int64_t now = Now();
  const bool is_unix = address->ss_family == AF_UNIX;
  const bool is_ip =
      address->ss_family == AF_INET || address->ss_family == AF_INET6;
  std::shared_ptr<const UnixCredentials> credentials;
  if (is_unix) credentials = read_credentials_(fd);
  // Nobody is let in who could be taken for somebody else.
  bool is_nobody = (!is_unix && !is_ip) || (is_unix && credentials == nullptr);
  if (address->ss_family == AF_INET6) {
    sockaddr_in6 ipv6;
    memcpy(&ipv6, address, sizeof(ipv6));
    is_nobody = is_nobody || ConnectionNumberOf(ipv6.sin6_addr) != 0;
  }
  if (is_nobody || fd >= kMaxDescriptors) {
    Count(is_nobody ? CutReason::kUnknownPeer : CutReason::kNoDescriptors,
          credentials.get());
    return false;
  }

  std::unique_ptr<Connection> connection;
  CutReason reason;
  {
    absl::MutexLock lock(&mutex_);
    std::shared_ptr<Peer> peer = PeerOf(
        is_unix ? KeyOf(*credentials) : PeerKey::OfAddress(*address), now);
    std::shared_ptr<User> user;
    if (is_unix) user = UserOf(credentials->uid, now);
    reason = Admission(*peer, user.get(), credentials.get(), now);
    if (reason == CutReason::kNone) {
      ++connections_;
      ++peer->connections;
      if (user != nullptr) ++user->connections;
      connection = std::make_unique<Connection>(
          std::move(peer), std::move(user),
          is_unix ? ConnectionWatch::Transport::kPlain
                  : ConnectionWatch::Transport::kMaybeTls);
      if (is_unix) {
        connection->number = ++last_number_;
        credentials_[connection->number] = credentials;
      } else {
        ++tcp_connections_;
      }
    }
  }
  if (reason != CutReason::kNone) {
    Count(reason, credentials.get());
    return false;
  }

  accepted_.fetch_add(1, std::memory_order_relaxed);
  if (is_unix) {
    const sockaddr_in6 named = AddressOfConnection(connection->number);
    *address = {};
    memcpy(address, &named, sizeof(named));
    *length = sizeof(named);
  }
  connection->credentials = std::move(credentials);
  slots_[fd].store(connection.release(), std::memory_order_release);
  return true;
}

CutReason ConnectionTable::Admission(Peer& peer, User* user,
                                     const UnixCredentials* credentials,
                                     int64_t now) const {
  if (now < peer.penalty_end) return CutReason::kPenalty;
  const bool is_ours = credentials != nullptr &&
                       (credentials->uid == 0 || credentials->uid == own_user_);
  const int64_t reserved = is_ours ? 0 : guard_limits::kReservedConnections;
  if (connections_ >= guard_limits::kMaxConnections - reserved) {
    return CutReason::kTooManyConnections;
  }
  if (credentials == nullptr &&
      tcp_connections_ >= guard_limits::kMaxTcpConnections) {
    return CutReason::kTooManyTcpConnections;
  }
  if (peer.connections >= guard_limits::kMaxConnectionsPerPeer) {
    return CutReason::kTooManyConnectionsOfPeer;
  }
  if (user != nullptr &&
      user->connections >= guard_limits::kMaxConnectionsPerUser) {
    return CutReason::kTooManyConnectionsOfUser;
  }
  if (!peer.connects.Take(1, now)) return CutReason::kTooManyConnects;
  if (user != nullptr && !user->connects.Take(1, now)) {
    return CutReason::kTooManyConnectsOfUser;
  }
  return CutReason::kNone;
}

bool ConnectionTable::IsUnix(int fd) const {
  const Connection* connection = Find(fd);
  return connection != nullptr && connection->number != 0;
}

void ConnectionTable::NoteNoDescriptors() {
  Count(CutReason::kNoDescriptors, nullptr);
}

bool ConnectionTable::NoteReceived(int fd, const msghdr& message,
                                   size_t count) {
  Connection* connection = Find(fd);
  if (connection == nullptr) return true;
  if (connection->is_cut) return false;
  const int64_t now = Now();
  CutReason reason = connection->watch.ReadReturned(count, now);
  ForEachPiece(message, count, [&](const uint8_t* bytes, size_t piece) {
    if (reason != CutReason::kNone) return;
    reason = connection->watch.Received(bytes, piece, now);
  });
  if (reason == CutReason::kNone) return true;
  connection->is_cut = true;
  shutdown(fd, SHUT_RDWR);
  // What several have done together is no offence of this one.
  if (reason != CutReason::kTooManyOpenStreamsInAll &&
      reason != CutReason::kTooMuchOfUser) {
    absl::MutexLock lock(&mutex_);
    Punish(*connection->peer, now);
  }
  Count(reason, connection->credentials.get());
  return false;
}

void ConnectionTable::NoteSent(int fd, const msghdr& message, size_t count) {
  Connection* connection = Find(fd);
  if (connection == nullptr) return;
  if (connection->stalled_at.load(std::memory_order_relaxed) != 0) {
    connection->stalled_at.store(0, std::memory_order_relaxed);
  }
  ForEachPiece(message, count, [&](const uint8_t* bytes, size_t piece) {
    connection->watch.Sent(bytes, piece);
  });
}

void ConnectionTable::NoteStalled(int fd) {
  Connection* connection = Find(fd);
  if (connection == nullptr ||
      connection->stalled_at.load(std::memory_order_relaxed) != 0) {
    return;
  }
  connection->stalled_at.store(Now(), std::memory_order_relaxed);
}

void ConnectionTable::Sweep() {
  const int64_t now = Now();
  const int64_t limit = guard_limits::kMaxStalledWriteMs * kMillisecond;
  absl::MutexLock lock(&mutex_);
  int64_t left = connections_;
  for (int fd = 0; fd < kMaxDescriptors && left > 0; ++fd) {
    Connection* connection = Find(fd);
    if (connection == nullptr) continue;
    --left;
    const int64_t since =
        connection->stalled_at.load(std::memory_order_relaxed);
    if (since == 0 || now - since < limit) continue;
    // Once is enough.
    connection->stalled_at.store(0, std::memory_order_relaxed);
    shutdown(fd, SHUT_RDWR);
    Punish(*connection->peer, now);
    Count(CutReason::kReadsNothing, connection->credentials.get());
  }
}

void ConnectionTable::Punish(Peer& peer, int64_t now) {
  // Several connections cut at once are one offence.
  if (now < peer.penalty_end) return;
  const bool is_relapse =
      peer.penalty_ms > 0 &&
      now < peer.penalty_end + kLongestPenaltyMs * kMillisecond;
  peer.penalty_ms = is_relapse
                        ? std::min(2 * peer.penalty_ms, kLongestPenaltyMs)
                        : kFirstPenaltyMs;
  peer.penalty_end = now + peer.penalty_ms * kMillisecond;
}

void ConnectionTable::Forget(int fd) {
  if (Find(fd) == nullptr) return;
  std::unique_ptr<Connection> connection;  // ends without the lock
  absl::MutexLock lock(&mutex_);
  connection.reset(slots_[fd].exchange(nullptr, std::memory_order_acq_rel));
  if (connection == nullptr) return;
  if (connection->stalled_at.load(std::memory_order_relaxed) != 0) {
    ended_stalled_.fetch_add(1, std::memory_order_relaxed);
  }
  --connections_;
  --connection->peer->connections;
  if (connection->credentials == nullptr) {
    --tcp_connections_;
    return;
  }
  --connection->user->connections;
  credentials_.erase(connection->number);
}

std::shared_ptr<const UnixCredentials> ConnectionTable::FindCredentials(
    uint64_t number) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto found = credentials_.find(number);
  return found == credentials_.end() ? nullptr : found->second;
}

GuardStats ConnectionTable::stats() const {
  GuardStats stats;
  stats.accepted_connections = accepted_.load(std::memory_order_relaxed);
  stats.ended_stalled = ended_stalled_.load(std::memory_order_relaxed);
  stats.open_streams = streams_.open.load(std::memory_order_relaxed);
  for (int i = 1; i < static_cast<int>(CutReason::kCount); ++i) {
    const auto reason = static_cast<CutReason>(i);
    const int64_t count = cuts_[i].load(std::memory_order_relaxed);
    stats.cuts[std::string(NameOf(reason))] = count;
    if (IsCutOff(reason)) stats.cut_connections += count;
  }
  absl::ReaderMutexLock lock(&mutex_);
  stats.open_connections = connections_;
  return stats;
}

std::shared_ptr<ConnectionTable::Peer> ConnectionTable::PeerOf(
    const PeerKey& key, int64_t now) {
  if (static_cast<int64_t>(peers_.size()) >= guard_limits::kMaxPeers) {
    ForgetOldPeers(now);
  }
  std::shared_ptr<Peer>& peer = peers_[key];
  if (peer == nullptr) peer = std::make_shared<Peer>(streams_);
  return peer;
}

std::shared_ptr<ConnectionTable::User> ConnectionTable::UserOf(uid_t uid,
                                                               int64_t now) {
  if (static_cast<int64_t>(users_.size()) >= guard_limits::kMaxPeers) {
    ForgetOldUsers(now);
  }
  std::shared_ptr<User>& user = users_[uid];
  if (user == nullptr) user = std::make_shared<User>();
  return user;
}

void ConnectionTable::ForgetOldUsers(int64_t now) {
  const auto forget = [&](auto&& is_old) {
    mutex_.AssertHeld();
    absl::erase_if(users_, [&](const auto& entry) {
      return entry.second->connections == 0 && is_old(*entry.second);
    });
  };
  forget([&](User& user) {
    return user.connects.IsFull(now) && user.budget.IsUnspent(now);
  });
  // Memory comes before memories.
  if (static_cast<int64_t>(users_.size()) >= guard_limits::kMaxPeers) {
    forget([](User&) { return true; });
  }
}

void ConnectionTable::ForgetOldPeers(int64_t now) {
  const auto forget = [&](auto&& is_old) {
    mutex_.AssertHeld();
    for (auto it = peers_.begin(); it != peers_.end();) {
      const auto here = it++;
      Peer& peer = *here->second;
      if (peer.connections == 0 && is_old(peer)) peers_.erase(here);
    }
  };
  forget([&](Peer& peer) {
    return now >= peer.penalty_end + kLongestPenaltyMs * kMillisecond &&
           peer.connects.IsFull(now) && peer.budget.IsUnspent(now);
  });
  // Memory comes before memories.
  if (static_cast<int64_t>(peers_.size()) >= guard_limits::kMaxPeers) {
    forget([&](Peer& peer) { return now >= peer.penalty_end; });
  }
  if (static_cast<int64_t>(peers_.size()) >= guard_limits::kMaxPeers) {
    forget([](Peer&) { return true; });
  }
}

void ConnectionTable::Count(CutReason reason,
                            const UnixCredentials* credentials) {
  cuts_[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  const int64_t second = Now() / kSecond;
  if (log_second_.exchange(second, std::memory_order_relaxed) != second) {
    log_lines_.store(0, std::memory_order_relaxed);
  }
  if (log_lines_.fetch_add(1, std::memory_order_relaxed) >=
      kLogLinesPerSecond) {
    return;
  }
  Log(Severity::kWarning, "a connection is cut off",
      {{"reason", NameOf(reason)},
       {"peer", credentials == nullptr
                    ? "tcp"
                    : absl::StrCat("uid:", credentials->uid,
                                   " pid:", credentials->pid)}});
}

GuardStats Stats() { return ConnectionTable::Get().stats(); }

}  // namespace tdp::server
