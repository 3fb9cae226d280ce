// Hostile clients against the daemon where it sees what they send: at its Unix
// socket and on TCP without TLS.

#include <algorithm>
#include <deque>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/guard/attack_fixture.h"
#include "server/guard/guard_limits.h"
#include "tdp/v1/guest_memory_service.pb.h"

namespace tdp::server {
namespace {

enum class Transport { kUnixSocket, kTcp };

class PlainAttackTest : public AttackTest,
                        public testing::WithParamInterface<Transport> {
 protected:
  void SetUp() override {
    AttackTest::SetUp();
    if (!is_tcp()) {
      StartDaemon(Listens::kUnixSocketOnly, {});
      target_ = socket_;
      return;
    }
    StartDaemon(Listens::kTcpToo, {"--insecure_loopback"});
    if (HasFatalFailure()) return;
    target_ = TcpPort();
  }
  static bool is_tcp() { return GetParam() == Transport::kTcp; }

  // Returns whether the daemon comes to have so few again.
  bool AwaitDescriptors(int count) const {
    const absl::Time end = absl::Now() + kPatience;
    while (daemon_->CountOf("fd") > count) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(20));
    }
    return true;
  }

  static constexpr absl::Duration kPatience = absl::Seconds(60);
  // Who an attacker connects to.
  std::string target_;
};

TEST_P(PlainAttackTest, AFloodOfResetsIsCutOff) {
  ExpectCutOff(Attack([&] { return FloodOnce(target_, 500000, OpenAndReset); }),
               "too_many_resets");
}

TEST_P(PlainAttackTest, AnAttackerThatComesBackMeetsClosedDoors) {
  const auto reports = Attack(
      [&] {
        Report report;
        constexpr int64_t kPerConnection = 2000;
        while (report.sent < 500000) {
          Http2Attacker attacker;
          ConnectTo(target_, attacker);
          if (attacker.Send(http2::Preface() + http2::Settings())) {
            ++report.opened;
          }
          attacker.Flood(kPerConnection, OpenAndReset);
          report.cut += attacker.AwaitClose(kSoon) ? 1 : 0;
          report.sent += kPerConnection;
        }
        return report;
      },
      4);
  for (const Report& report : reports) EXPECT_EQ(report.cut, 250);
}

TEST_P(PlainAttackTest, AFloodOfHeadersIsCutOff) {
  const std::string filler(16000, 'f');
  ExpectCutOff(Attack([&] {
                 return FloodOnce(target_, 100000, [&](int64_t n) {
                   return http2::CallHeaders(static_cast<uint32_t>(2 * n + 1),
                                             http2::kGetInfo, 1, filler);
                 });
               }),
               "too_many_header_bytes");
}

TEST_P(PlainAttackTest, AFloodOfContinuationsIsCutOff) {
  ExpectCutOff(Attack([&] {
                 return FloodOnce(target_, 1000000, [](int64_t n) {
                   return n == 0 ? http2::Frame(1, 0, 1, "")
                                 : http2::Frame(9, 0, 1, std::string(100, 'x'));
                 });
               }),
               "too_many_continuations");
}

TEST_P(PlainAttackTest, FloodsOfFramesThatCarryNothingAreCutOff) {
  const std::pair<std::string, const char*> floods[] = {
      {http2::Settings(), "too_many_settings"},
      {http2::Frame(6, 0, 0, "12345678"), "too_many_pings"},
      {http2::Frame(2, 0, 1, std::string(5, '\0')), "too_many_useless_frames"},
      {http2::Frame(99, 0, 0, "unknown"), "too_many_useless_frames"},
      {http2::WindowUpdate(0, 1), "too_many_window_updates"},
  };
  for (const auto& [frame, reason] : floods) {
    const auto make = [&frame = frame](int64_t) { return frame; };
    for (const auto reading : {Http2Attacker::Reading::kReads,
                               Http2Attacker::Reading::kNeverReads}) {
      ExpectCutOff(
          Attack([&] { return FloodOnce(target_, 1000000, make, reading); }),
          reason);
    }
  }
}

TEST_P(PlainAttackTest, AThousandConnectionsAreBounded) {
  constexpr int64_t kTooMany = 500 - guard_limits::kMaxConnectionsPerPeer;
  const auto reports = Attack(
      [&] {
        Report report;
        std::deque<Http2Attacker> attackers(500);
        for (size_t i = 0; i < attackers.size(); ++i) {
          if (!ConnectTo(target_, attackers[i])) continue;
          // Every other one says nothing at all.
          if (i % 2 == 0) {
            attackers[i].Send(http2::Preface() + http2::Settings());
          }
        }
        const absl::Time deadline = absl::Now() + kSoon;
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
              testing::HasSubstr("too_many_connections_of_"));
}

TEST_P(PlainAttackTest, TenThousandOpenStreamsAreBounded) {
  const auto reports = Attack(
      [&] {
        Report report;
        std::deque<Http2Attacker> attackers(10);
        for (Http2Attacker& attacker : attackers) {
          if (!ConnectTo(target_, attacker) ||
              !attacker.Send(http2::Preface() + http2::Settings())) {
            continue;
          }
          report.sent += attacker.Flood(250, [](int64_t n) {
            return http2::CallHeaders(static_cast<uint32_t>(2 * n + 1),
                                      http2::kGetInfo);
          });
        }
        for (Http2Attacker& attacker : attackers) {
          ++(attacker.AwaitClose(absl::Milliseconds(300)) ? report.cut
                                                          : report.opened);
        }
        return report;
      },
      4);
  for (const Report& report : reports) EXPECT_GE(report.cut, 1);
  EXPECT_THAT(daemon_->Output(), testing::HasSubstr("too_many_open_streams"));
}

TEST_P(PlainAttackTest, GarbageIsCutOff) {
  ExpectCutOff(Attack([&] {
                 Report report;
                 Http2Attacker attacker;
                 report.opened = ConnectTo(target_, attacker) ? 1 : 0;
                 report.sent = attacker.Flood(
                     1000, [](int64_t n) { return std::string(100, 33 + n); });
                 report.cut = attacker.AwaitClose(kSoon) ? 1 : 0;
                 return report;
               }),
               "not_http2");
}

TEST_P(PlainAttackTest, BytesOneByOneAreCutOff) {
  ExpectCutOff(Attack([&] {
                 Report report;
                 Http2Attacker attacker;
                 report.opened = ConnectTo(target_, attacker) ? 1 : 0;
                 std::string bytes = http2::Preface() + http2::Settings();
                 for (uint32_t id = 1; id < 2000; id += 2) {
                   bytes += http2::CallHeaders(id, http2::kGetInfo) +
                            http2::CallMessage(id, "");
                 }
                 for (const char byte : bytes) {
                   if (!attacker.Send(std::string(1, byte))) break;
                   ++report.sent;
                   // The kernel would put them together.
                   absl::SleepFor(absl::Microseconds(50));
                 }
                 report.cut = attacker.AwaitClose(kSoon) ? 1 : 0;
                 return report;
               }),
               "too_many_tiny_reads");
}

TEST_P(PlainAttackTest, ConnectionsThatStayHalfOpenAreClosed) {
  const auto reports = Attack([&] {
    Report report;
    const absl::Time start = absl::Now();
    std::deque<Http2Attacker> attackers(100);
    for (size_t i = 0; i < attackers.size(); ++i) {
      if (!ConnectTo(target_, attackers[i])) continue;
      ++report.opened;
      attackers[i].Send(http2::Preface().substr(0, i % 25));
    }
    for (Http2Attacker& attacker : attackers) {
      report.cut += attacker.AwaitClose(absl::Seconds(30)) ? 1 : 0;
    }
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  });
  EXPECT_EQ(reports[0].opened, 100);
  EXPECT_EQ(reports[0].cut, 100);
}

// Answers of 256 KiB that nobody takes. On TCP the attacker does not notice its
// end, which comes behind what it does not read, and the kernel may be faster
// than the guard.
TEST_P(PlainAttackTest, AClientThatReadsNothingIsCutOff) {
  CreateGuest(/*frame_count=*/256);
  v1::ReadGuestMemoryRequest request;
  request.set_vm("vms/a");
  request.set_size_bytes(1 << 20);
  const std::string message = request.SerializeAsString();
  const int descriptors = daemon_->CountOf("fd");
  const auto reports = Attack([&] {
    Report report;
    Http2Attacker attacker;
    if (!ConnectTo(target_, attacker)) return report;
    report.opened = 1;
    const absl::Time start = absl::Now();
    // All the window that there is.
    attacker.Send(http2::Preface() +
                      http2::Settings(http2::Setting(4, 0x7fffffff)) +
                      http2::WindowUpdate(0, 0x7fff0000),
                  Http2Attacker::Reading::kNeverReads);
    report.sent = attacker.Flood(
        100,
        [&](int64_t n) {
          const auto id = static_cast<uint32_t>(2 * n + 1);
          return http2::CallHeaders(
                     id, "/tdp.v1.GuestMemoryService/ReadGuestMemory") +
                 http2::CallMessage(id, message);
        },
        Http2Attacker::Reading::kNeverReads);
    report.cut = (is_tcp() ? AwaitDescriptors(descriptors)
                           : attacker.AwaitHangUp(kPatience))
                     ? 1
                     : 0;
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  });
  EXPECT_EQ(reports[0].cut, 1);
  if (!is_tcp()) ExpectCutOff(reports, "reads_nothing");
}

INSTANTIATE_TEST_SUITE_P(Over, PlainAttackTest,
                         testing::Values(Transport::kUnixSocket,
                                         Transport::kTcp),
                         [](const testing::TestParamInfo<Transport>& info) {
                           return info.param == Transport::kTcp ? "Tcp"
                                                                : "UnixSocket";
                         });

}  // namespace
}  // namespace tdp::server
