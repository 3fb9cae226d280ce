#include "server/guard/connection_table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/guard/guard_limits.h"
#include "server/testing/http2_attacker.h"

namespace tdp::server {
namespace {

class ConnectionTableTest : public testing::Test {
 protected:
  void TearDown() override {
    while (!sockets_.empty()) Close(sockets_.front());
  }

  // A connected socket whose other end is ours, too.
  int NewSocket() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    others_.push_back(ends[1]);
    sockets_.push_back(ends[0]);
    return ends[0];
  }
  // Half of each pair is enough for the descriptors to be had.
  void Close(int fd) {
    for (size_t i = 0; i < sockets_.size(); ++i) {
      if (sockets_[i] != fd) continue;
      table_->Forget(fd);
      close(fd);
      close(others_[i]);
      sockets_.erase(sockets_.begin() + static_cast<ptrdiff_t>(i));
      others_.erase(others_.begin() + static_cast<ptrdiff_t>(i));
      return;
    }
  }
  bool AdmitUnix(int fd) {
    sockaddr_storage address = {};
    address.ss_family = AF_UNIX;
    socklen_t length = sizeof(sa_family_t);
    const bool admitted = table_->Admit(fd, &address, &length);
    if (admitted) {
      sockaddr_in6 named;
      memcpy(&named, &address, sizeof(named));
      EXPECT_EQ(length, sizeof(named));
      EXPECT_EQ(named.sin6_family, AF_INET6);
      number_ = ConnectionNumberOf(named.sin6_addr);
    }
    return admitted;
  }
  // From here on, clients of the Unix socket are `client`, whatever socket they
  // have, and the table belongs to `own_user`.
  void FakeClients(uid_t own_user) {
    table_ = std::make_unique<ConnectionTable>(
        [this](int) { return std::make_shared<UnixCredentials>(client_); },
        own_user);
  }
  // Lets in connections with the descriptors from `first` on, as none is looked
  // at, until one is refused.
  std::vector<int> AdmitAll(int first, const std::function<bool(int)>& admit) {
    std::vector<int> fds;
    for (int fd = first; admit(fd); ++fd) fds.push_back(fd);
    return fds;
  }
  // As many clients of `uid` as it takes, each with all that a process can
  // have.
  std::vector<int> AdmitAllOf(uid_t uid, int first) {
    client_ = {.uid = uid, .pid = 0};
    return AdmitAll(first, [&](int fd) {
      if ((fd - first) % guard_limits::kMaxConnectionsPerPeer == 0) {
        client_.pid = ++last_process_;
      }
      return AdmitUnix(fd);
    });
  }
  static std::string Network(int i) {
    return "2001:db8:0:" + std::to_string(i % 9999) + "::1";
  }
  bool AdmitTcp(int fd, const char* text) {
    sockaddr_storage address = {};
    sockaddr_in6 ipv6 = {};
    ipv6.sin6_family = AF_INET6;
    EXPECT_EQ(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
    memcpy(&address, &ipv6, sizeof(ipv6));
    socklen_t length = sizeof(ipv6);
    return table_->Admit(fd, &address, &length);
  }
  bool Receive(int fd, std::string text) {
    iovec piece = {text.data(), text.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    return table_->NoteReceived(fd, message, text.size());
  }
  int64_t CutsFor(const std::string& reason) {
    return table_->stats().cuts.at(reason);
  }

  std::unique_ptr<ConnectionTable> table_ = std::make_unique<ConnectionTable>();
  std::vector<int> sockets_;
  std::vector<int> others_;
  uint64_t number_ = 0;
  UnixCredentials client_;
  pid_t last_process_ = 0;
};

TEST_F(ConnectionTableTest, ANumberLeadsToTheCredentialsUntilTheEnd) {
  const int fd = NewSocket();
  ASSERT_TRUE(AdmitUnix(fd));
  EXPECT_EQ(number_, 1);
  const auto found = table_->FindCredentials(1);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->pid, getpid());
  EXPECT_EQ(found->uid, getuid());
  EXPECT_EQ(table_->stats().open_connections, 1);

  table_->Forget(fd);
  EXPECT_EQ(table_->FindCredentials(1), nullptr);
  EXPECT_EQ(table_->stats().open_connections, 0);
  // The same descriptor is another connection.
  ASSERT_TRUE(AdmitUnix(fd));
  EXPECT_EQ(number_, 2);
  EXPECT_EQ(table_->FindCredentials(1), nullptr);
  EXPECT_EQ(table_->stats().accepted_connections, 2);
}

TEST_F(ConnectionTableTest, APeerHasSoManyConnections) {
  for (int64_t i = 0; i < guard_limits::kMaxConnectionsPerPeer; ++i) {
    ASSERT_TRUE(AdmitUnix(NewSocket())) << i;
  }
  const int fd = NewSocket();
  EXPECT_FALSE(AdmitUnix(fd));
  EXPECT_EQ(CutsFor("too_many_connections_of_peer"), 1);
  // Others are not concerned, and one that ends makes room.
  EXPECT_TRUE(AdmitTcp(NewSocket(), "2001:db8::1"));
  Close(sockets_.front());
  // All attempts at once are spent; more come with time.
  while (!AdmitUnix(fd)) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(CutsFor("too_many_connections_of_peer"), 1);
}

TEST_F(ConnectionTableTest, ThereAreSoManyConnectionsOnTcp) {
  const std::vector<int> fds = AdmitAll(
      20000, [this](int fd) { return AdmitTcp(fd, Network(fd).c_str()); });
  EXPECT_EQ(fds.size(), guard_limits::kMaxTcpConnections);
  EXPECT_EQ(CutsFor("too_many_tcp_connections"), 1);
  EXPECT_TRUE(AdmitUnix(NewSocket())) << "the Unix socket has its own";
  table_->Forget(fds.back());
  EXPECT_TRUE(AdmitTcp(fds.back(), "2001:db8:1::1"));
  EXPECT_FALSE(AdmitTcp(19999, "2001:db8:1::1"));
}

TEST_F(ConnectionTableTest, AUserHasSoManyConnectionsOverAllItsProcesses) {
  FakeClients(2000);
  const std::vector<int> fds = AdmitAllOf(1000, 20000);
  EXPECT_EQ(fds.size(), guard_limits::kMaxConnectionsPerUser);
  EXPECT_EQ(CutsFor("too_many_connections_of_user"), 1);
  table_->Forget(fds.back());
  // All attempts at once are spent; more come with time.
  client_.pid = ++last_process_;
  while (!AdmitUnix(fds.back())) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_FALSE(AdmitUnix(19999));
  EXPECT_EQ(CutsFor("too_many_connections_of_user"), 2);
  client_.uid = 1001;
  EXPECT_TRUE(AdmitUnix(19999));
}

TEST_F(ConnectionTableTest, TheLastConnectionsAreForRootAndTheDaemonsUser) {
  constexpr int64_t kForAll =
      guard_limits::kMaxConnections - guard_limits::kReservedConnections;
  FakeClients(2000);
  const size_t some = AdmitAllOf(1000, 20000).size();
  const std::vector<int> more = AdmitAllOf(1001, 30000);
  EXPECT_EQ(some + more.size(), kForAll);
  EXPECT_EQ(CutsFor("too_many_connections"), 1);
  EXPECT_FALSE(AdmitTcp(19999, "2001:db8::1"));
  EXPECT_EQ(CutsFor("too_many_connections"), 2);

  client_ = {.uid = 2000, .pid = ++last_process_};
  EXPECT_TRUE(AdmitUnix(19999));
  EXPECT_EQ(AdmitAllOf(0, 40000).size(),
            guard_limits::kReservedConnections - 1);
  EXPECT_EQ(CutsFor("too_many_connections"), 3);
  // One that ends is theirs again, not everybody's.
  table_->Forget(more.front());
  client_ = {.uid = 1001, .pid = ++last_process_};
  EXPECT_FALSE(AdmitUnix(more.front()));
  client_.uid = 0;
  EXPECT_TRUE(AdmitUnix(more.front()));
}

TEST_F(ConnectionTableTest, ProcessesThatCannotBeSeenAreOnePeerForEachUser) {
  FakeClients(2000);
  client_ = {.uid = 1000, .pid = 0};
  const auto admit = [this](int fd) { return AdmitUnix(fd); };
  EXPECT_EQ(AdmitAll(20000, admit).size(),
            guard_limits::kMaxConnectionsPerPeer);
  EXPECT_EQ(CutsFor("too_many_connections_of_peer"), 1);
  client_.uid = 1001;
  EXPECT_EQ(AdmitAll(30000, admit).size(), guard_limits::kMaxConnectionsPerPeer)
      << "a user pays for another one";
}

TEST_F(ConnectionTableTest, APeerMayTryToConnectSoOften) {
  const int fd = NewSocket();
  const absl::Time start = absl::Now();
  int64_t admitted = 0;
  while (AdmitUnix(fd)) {
    table_->Forget(fd);
    ++admitted;
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  EXPECT_GE(admitted, guard_limits::kConnectBurst);
  EXPECT_LE(admitted, guard_limits::kConnectBurst +
                          (seconds + 0.1) * guard_limits::kConnectsPerSecond);
  EXPECT_EQ(CutsFor("too_many_connects"), 1);
}

TEST_F(ConnectionTableTest, WhoBreaksALimitIsCutOffAndNotLetInForAWhile) {
  const int fd = NewSocket();
  ASSERT_TRUE(AdmitUnix(fd));
  EXPECT_TRUE(Receive(fd, http2::Preface()));
  const absl::Time start = absl::Now();
  EXPECT_FALSE(Receive(fd, http2::Frame(99, 0, 0, std::string(20000, 'x'))));
  EXPECT_FALSE(Receive(fd, "whatever comes"));
  EXPECT_EQ(CutsFor("frame_too_long"), 1);
  char byte;
  EXPECT_EQ(recv(others_[0], &byte, 1, 0), 0) << "the socket is still open";

  const int next = NewSocket();
  EXPECT_FALSE(AdmitUnix(next));
  EXPECT_EQ(CutsFor("penalty"), 1);
  while (!AdmitUnix(next)) absl::SleepFor(absl::Milliseconds(10));
  // The clock of the table is coarse.
  EXPECT_GE(absl::Now() - start,
            absl::Milliseconds(guard_limits::kFirstPenaltyMs - 50));
}

TEST_F(ConnectionTableTest, WhatAllHaveTakenTogetherIsNobodysOffence) {
  FakeClients(2000);
  const auto open = [](int64_t first, int64_t count) {
    std::string text;
    for (int64_t n = first; n < first + count; ++n) {
      text += http2::Frame(1, 0x5, static_cast<uint32_t>(2 * n + 1), "h");
    }
    return text;
  };
  int fd = 20000;
  const auto connect = [&](pid_t process) {
    client_ = {.uid = 1000, .pid = process};
    EXPECT_TRUE(AdmitUnix(++fd));
    EXPECT_TRUE(Receive(fd, http2::Preface()));
  };
  for (int64_t all = 0; all < guard_limits::kMaxOpenStreams; all += 256) {
    connect(static_cast<pid_t>(1 + all / 1024));
    ASSERT_TRUE(Receive(fd, open(0, 256))) << all;
  }
  connect(100);
  const int64_t mine = guard_limits::kGuaranteedStreamsPerPeer;
  EXPECT_TRUE(Receive(fd, open(0, mine)));
  EXPECT_FALSE(Receive(fd, open(mine, 1)));
  EXPECT_EQ(CutsFor("too_many_open_streams_in_all"), 1);
  EXPECT_EQ(CutsFor("too_many_open_streams"), 0);
  EXPECT_EQ(table_->stats().cut_connections, 1);
  table_->Forget(fd);
  connect(100);
  EXPECT_TRUE(Receive(fd, open(0, mine)));
  EXPECT_EQ(CutsFor("penalty"), 0);
}

// Each process stays within its own limits, and the next one is new.
TEST_F(ConnectionTableTest, AProcessThatForksHasTheShareOfOneUser) {
  FakeClients(2000);
  std::string flood = http2::Preface();
  for (int64_t n = 0; n < guard_limits::kResetBurst; ++n) {
    const auto id = static_cast<uint32_t>(2 * n + 1);
    flood += http2::Frame(1, 0x5, id, "h") + http2::Reset(id);
  }
  constexpr int fd = 20000;
  const absl::Time start = absl::Now();
  int64_t whole_floods = 0;
  int64_t cut = 0;
  for (pid_t process = 1; process <= 100; ++process) {
    client_ = {.uid = 1000, .pid = process};
    ASSERT_TRUE(AdmitUnix(fd)) << process;
    ++(Receive(fd, flood) ? whole_floods : cut);
    table_->Forget(fd);
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  EXPECT_GE(whole_floods, guard_limits::kPeersPerUser);
  EXPECT_LE(static_cast<double>(whole_floods * guard_limits::kResetBurst),
            static_cast<double>(guard_limits::kPeersPerUser) *
                (guard_limits::kResetBurst +
                 (seconds + 0.1) * guard_limits::kResetsPerSecond));
  EXPECT_EQ(CutsFor("too_much_of_user"), cut);
  EXPECT_EQ(CutsFor("too_many_resets"), 0);
  // It was no offence of the process's own, and no concern of other users.
  EXPECT_TRUE(AdmitUnix(fd));
  table_->Forget(fd);
  EXPECT_EQ(CutsFor("penalty"), 0);
  client_ = {.uid = 1001, .pid = 101};
  ASSERT_TRUE(AdmitUnix(fd));
  EXPECT_TRUE(Receive(fd, flood));
  table_->Forget(fd);
}

TEST_F(ConnectionTableTest, TheProcessesOfAUserMayTryToConnectSoOften) {
  FakeClients(2000);
  constexpr int fd = 20000;
  const absl::Time start = absl::Now();
  int64_t admitted = 0;
  client_ = {.uid = 1000, .pid = 1};
  while (AdmitUnix(fd)) {
    table_->Forget(fd);
    ++admitted;
    ++client_.pid;
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  constexpr int64_t kPeers = guard_limits::kPeersPerUser;
  EXPECT_GE(admitted, kPeers * guard_limits::kConnectBurst);
  EXPECT_LE(static_cast<double>(admitted),
            kPeers * (guard_limits::kConnectBurst +
                      (seconds + 0.1) * guard_limits::kConnectsPerSecond));
  EXPECT_EQ(CutsFor("too_many_connects_of_user"), 1);
  client_.uid = 1001;
  EXPECT_TRUE(AdmitUnix(fd));
  table_->Forget(fd);
}

TEST_F(ConnectionTableTest, RemembersABoundedNumberOfUsers) {
  FakeClients(2000);
  for (int64_t i = 0; i < 3 * guard_limits::kMaxPeers; ++i) {
    client_ = {.uid = static_cast<uid_t>(i), .pid = static_cast<pid_t>(i + 1)};
    ASSERT_TRUE(AdmitUnix(20000)) << i;
    table_->Forget(20000);
  }
}

TEST_F(ConnectionTableTest, NobodyOnTcpTakesTheAddressOfAUnixSocketsClient) {
  const int fd = NewSocket();
  ASSERT_TRUE(AdmitUnix(fd));
  EXPECT_FALSE(AdmitTcp(NewSocket(), "100::1"));
  EXPECT_FALSE(AdmitTcp(NewSocket(), "100::ffff"));
  EXPECT_EQ(CutsFor("unknown_peer"), 2);
  EXPECT_TRUE(AdmitTcp(NewSocket(), "100:0:0:1::1"));
}

TEST_F(ConnectionTableTest, WhatIsNotWatchedPasses) {
  const int fd = NewSocket();
  EXPECT_FALSE(table_->IsWatched(fd));
  EXPECT_TRUE(Receive(fd, "anything"));
  EXPECT_TRUE(Receive(-1, "anything"));
  EXPECT_TRUE(Receive(ConnectionTable::kMaxDescriptors, "anything"));
  table_->Forget(fd);
  table_->Forget(-1);
}

TEST_F(ConnectionTableTest, AnAddressThatNobodyKnowsIsNotLetIn) {
  sockaddr_storage address = {};
  address.ss_family = AF_NETLINK;
  socklen_t length = sizeof(address);
  EXPECT_FALSE(table_->Admit(NewSocket(), &address, &length));
  EXPECT_EQ(CutsFor("unknown_peer"), 1);
}

TEST_F(ConnectionTableTest, WhoHasNoCredentialsIsNotLetIn) {
  table_ = std::make_unique<ConnectionTable>([](int) { return nullptr; }, 2000);
  EXPECT_FALSE(AdmitUnix(20000));
  EXPECT_EQ(CutsFor("unknown_peer"), 1);
  EXPECT_EQ(CutsFor("no_descriptors"), 0);
}

TEST_F(ConnectionTableTest, ADescriptorBeyondTheTableIsNotLetIn) {
  EXPECT_FALSE(AdmitTcp(ConnectionTable::kMaxDescriptors, "2001:db8::1"));
  EXPECT_EQ(CutsFor("no_descriptors"), 1);
  EXPECT_TRUE(AdmitTcp(ConnectionTable::kMaxDescriptors - 1, "2001:db8::1"));
  EXPECT_EQ(table_->stats().cut_connections, 0) << "it was never let in";
}

TEST_F(ConnectionTableTest, RemembersABoundedNumberOfPeers) {
  const int fd = NewSocket();
  for (int64_t i = 0; i < 3 * guard_limits::kMaxPeers; ++i) {
    const std::string address = "2001:db8:" + std::to_string(i / 9000) + ":" +
                                std::to_string(i % 9000) + "::1";
    ASSERT_TRUE(AdmitTcp(fd, address.c_str())) << address;
    table_->Forget(fd);
  }
}

// What could not be written was memory, which the housekeeper gives back.
TEST_F(ConnectionTableTest, CountsThoseThatEndWhileNothingCanBeWritten) {
  const auto end_one = [this](bool stalls, bool writes_again) {
    const int fd = NewSocket();
    EXPECT_TRUE(AdmitUnix(fd));
    if (stalls) table_->NoteStalled(fd);
    if (writes_again) table_->NoteSent(fd, msghdr(), 0);
    Close(fd);
    return table_->stats().ended_stalled;
  };
  EXPECT_EQ(end_one(false, false), 0);
  EXPECT_EQ(end_one(true, true), 0);
  EXPECT_EQ(end_one(true, false), 1);
}

TEST_F(ConnectionTableTest, ASweepLeavesAloneWhoStalledAMomentAgo) {
  const int fd = NewSocket();
  ASSERT_TRUE(AdmitUnix(fd));
  table_->NoteStalled(fd);
  table_->Sweep();
  EXPECT_EQ(CutsFor("reads_nothing"), 0);
  EXPECT_TRUE(Receive(fd, http2::Preface()));
}

}  // namespace
}  // namespace tdp::server
