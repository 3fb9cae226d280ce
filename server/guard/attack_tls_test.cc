// Hostile clients on TCP with TLS that have no certificate: some speak TLS,
// some do not.

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <deque>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/access/test_certificates.h"
#include "server/guard/attack_fixture.h"
#include "server/guard/guard_limits.h"

namespace tdp::server {
namespace {

// The begin of a TLS record: a handshake, of TLS 1.2, so long.
std::string RecordHeader(uint16_t length) {
  return {'\x16', '\x03', '\x03', static_cast<char>(length >> 8),
          static_cast<char>(length & 0xff)};
}

// A connection whose handshake shows no certificate.
class TlsAttacker {
 public:
  // `port` of this host.
  explicit TlsAttacker(int port)
      : context_(SSL_CTX_new(TLS_client_method())), ssl_(NewSsl()) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    // Nothing waits for ever: a server that does nothing is a failure.
    const timeval patience = {.tv_sec = 30, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    is_connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address),
                            sizeof(address)) == 0;
    SSL_set_fd(ssl_.get(), fd_);
  }
  TlsAttacker(const TlsAttacker&) = delete;
  TlsAttacker& operator=(const TlsAttacker&) = delete;
  ~TlsAttacker() { close(fd_); }

  bool is_connected() const { return is_connected_; }
  // True if its own part of the handshake was done: with TLS 1.3 it hears only
  // afterwards that it is not wanted.
  bool Handshake() { return SSL_connect(ssl_.get()) == 1; }
  // False once the server has closed the connection.
  bool Send(absl::string_view bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) >
           0;
  }
  // Whether the server closes the connection without a word of HTTP/2.
  bool IsTurnedAway() {
    char buffer[4096];
    if (SSL_read(ssl_.get(), buffer, sizeof(buffer)) > 0) return false;
    ssize_t count = 0;
    do {
      count = recv(fd_, buffer, sizeof(buffer), 0);
    } while (count > 0);
    return count == 0 || errno == ECONNRESET;
  }

 private:
  struct Freer {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  SSL* NewSsl() const {
    // The only protocol that gRPC speaks.
    static constexpr unsigned char kAlpn[] = {2, 'h', '2'};
    SSL* ssl = SSL_new(context_.get());
    SSL_set_alpn_protos(ssl, kAlpn, sizeof(kAlpn));
    return ssl;
  }

  const std::unique_ptr<SSL_CTX, Freer> context_;
  const std::unique_ptr<SSL, Freer> ssl_;
  const int fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool is_connected_ = false;
};

class TlsAttackTest : public AttackTest {
 protected:
  void SetUp() override {
    AttackTest::SetUp();
    const TestAuthority servers("authority of servers");
    const TestAuthority clients("authority of clients");
    const TestCertificate own = servers.Issue("IP:127.0.0.1");
    Write("cert", own.certificate);
    Write("key", own.key);
    Write("file", clients.certificate());
    StartDaemon(Listens::kTcpToo,
                {absl::StrCat("--tls_cert=", folder_, "/cert"),
                 absl::StrCat("--tls_key=", folder_, "/key"),
                 absl::StrCat("--tls_client_ca=", folder_, "/file")});
    if (HasFatalFailure()) return;
    target_ = TcpPort();
    ASSERT_TRUE(absl::SimpleAtoi(target_, &port_));
  }

  // Sends `bytes` over one connection; cut: the server closed it.
  Report SendOnce(const std::string& bytes) const {
    Report report;
    Http2Attacker attacker;
    report.opened = ConnectTo(target_, attacker) ? 1 : 0;
    const absl::Time start = absl::Now();
    attacker.Send(bytes);
    report.cut = attacker.AwaitClose(kSoon) ? 1 : 0;
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  }
  static void ExpectClosed(const std::vector<Report>& reports) {
    for (const Report& report : reports) {
      EXPECT_GE(report.opened, 1);
      EXPECT_EQ(report.cut, report.opened);
    }
  }

  std::string target_;
  int port_ = 0;

 private:
  void Write(const std::string& name, const std::string& text) const {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path) << text;
    chmod(path.c_str(), 0600);
  }
};

TEST_F(TlsAttackTest, AFloodOfResetsWithoutTlsIsCutOff) {
  ExpectClosed(
      Attack([&] { return FloodOnce(target_, 500000, OpenAndReset); }));
}

TEST_F(TlsAttackTest, FloodsThatCarryNothingWithoutTlsAreCutOff) {
  for (const std::string& frame :
       {http2::Settings(), http2::Frame(6, 0, 0, "12345678")}) {
    const auto make = [&](int64_t) { return frame; };
    ExpectClosed(Attack([&] { return FloodOnce(target_, 1000000, make); }));
  }
}

TEST_F(TlsAttackTest, WhoShowsNoCertificateGetsNoFurtherThanTheHandshake) {
  const auto reports = Attack(
      [&] {
        Report report;
        const absl::Time start = absl::Now();
        // A peer may try to connect so often at once.
        for (int i = 0; i < 25; ++i) {
          TlsAttacker attacker(port_);
          if (!attacker.is_connected()) continue;
          ++report.opened;
          if (attacker.Handshake()) {
            std::string bytes = http2::Preface() + http2::Settings();
            for (int64_t n = 0; n < 300; ++n) bytes += OpenAndReset(n);
            for (int more = 0; more < 100 && attacker.Send(bytes); ++more) {
              report.sent += 300;
            }
          }
          report.cut += attacker.IsTurnedAway() ? 1 : 0;
        }
        report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
        return report;
      },
      4);
  ExpectClosed(reports);
  for (const Report& report : reports) EXPECT_EQ(report.opened, 25);
}

TEST_F(TlsAttackTest, GarbageThatBeginsLikeTlsIsCutOff) {
  ExpectClosed(Attack(
      [&] { return SendOnce(RecordHeader(1000) + std::string(1000, 'g')); }));
  ExpectClosed(Attack([&] {
    return SendOnce(RecordHeader(65535) + std::string(100000, 'g'));
  }));
}

// Those that send nothing, a part of a record's head, and of its body.
TEST_F(TlsAttackTest, HandshakesThatStayHalfOpenAreClosed) {
  const auto reports = Attack([&] {
    Report report;
    const absl::Time start = absl::Now();
    std::deque<Http2Attacker> attackers(100);
    const std::string begin = RecordHeader(500);
    for (size_t i = 0; i < attackers.size(); ++i) {
      if (!ConnectTo(target_, attackers[i])) continue;
      ++report.opened;
      attackers[i].Send((begin + std::string(100, '\x01')).substr(0, i % 50));
    }
    for (Http2Attacker& attacker : attackers) {
      report.cut += attacker.AwaitClose(kSoon) ? 1 : 0;
    }
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  });
  ExpectClosed(reports);
  EXPECT_EQ(reports[0].opened, 100);
}

TEST_F(TlsAttackTest, AThousandConnectionsAreBounded) {
  constexpr int64_t kTooMany = 500 - guard_limits::kMaxConnectionsPerPeer;
  const auto reports = Attack(
      [&] {
        Report report;
        std::deque<Http2Attacker> attackers(500);
        for (size_t i = 0; i < attackers.size(); ++i) {
          if (!ConnectTo(target_, attackers[i])) continue;
          if (i % 2 == 0) attackers[i].Send(RecordHeader(500));
        }
        // Before any of them has stayed half open for too long.
        const absl::Time deadline = absl::Now() + absl::Seconds(5);
        while (report.cut < kTooMany && absl::Now() < deadline) {
          absl::SleepFor(absl::Milliseconds(20));
          report.cut = 0;
          for (Http2Attacker& attacker : attackers) {
            report.cut += attacker.AwaitClose(absl::ZeroDuration()) ? 1 : 0;
          }
        }
        report.opened = static_cast<int64_t>(attackers.size()) - report.cut;
        return report;
      },
      4);
  for (const Report& report : reports) EXPECT_GE(report.cut, kTooMany);
  EXPECT_THAT(daemon_->Output(),
              testing::HasSubstr("too_many_connections_of_peer"));
}

}  // namespace
}  // namespace tdp::server
