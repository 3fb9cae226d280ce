#include "server/guard/flood_limits.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/testing/http2_attacker.h"

namespace tdp::server {
namespace {

constexpr int64_t kSecond = 1000000000;

class FloodLimitsTest : public testing::Test {
 protected:
  using Transport = ConnectionWatch::Transport;

  std::unique_ptr<ConnectionWatch> Connect(PeerBudget& peer,
                                           UserBudget* user = nullptr) {
    auto watch =
        std::make_unique<ConnectionWatch>(peer, user, Transport::kPlain);
    EXPECT_EQ(Receive(*watch, http2::Preface()), CutReason::kNone);
    return watch;
  }
  static CutReason Receive(ConnectionWatch& watch, const std::string& text,
                           int64_t now = kSecond) {
    return watch.Received(reinterpret_cast<const uint8_t*>(text.data()),
                          text.size(), now);
  }
  static void Send(ConnectionWatch& watch, const std::string& text) {
    watch.Sent(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  }
  // `limit` of what `make` makes are fine at once, and one more is `reason`;
  // after a second `per_second` more would have been fine.
  void ExpectLimit(int64_t limit, int64_t per_second,
                   const std::function<std::string(int64_t)>& make,
                   CutReason reason) {
    {
      PeerBudget peer(total_);
      const auto watch = Connect(peer);
      for (int64_t n = 0; n < limit; ++n) {
        ASSERT_EQ(Receive(*watch, make(n)), CutReason::kNone) << n;
      }
      EXPECT_EQ(Receive(*watch, make(limit)), reason);
      EXPECT_EQ(Receive(*watch, make(0), 100 * kSecond), reason)
          << "a connection that was cut off is fine again";
    }
    // But never more than at once.
    per_second = std::min(per_second, limit);
    PeerBudget peer(total_);
    const auto watch = Connect(peer);
    for (int64_t n = 0; n < limit; ++n) Receive(*watch, make(n));
    for (int64_t n = 0; n < per_second; ++n) {
      ASSERT_EQ(Receive(*watch, make(limit + n), 2 * kSecond), CutReason::kNone)
          << n;
    }
    EXPECT_EQ(Receive(*watch, make(limit + per_second), 2 * kSecond), reason);
  }
  static std::string Headers(uint32_t id, size_t bytes = 10, int flags = 0x5) {
    return http2::Frame(1, flags, id, std::string(bytes, 'h'));
  }
  static uint32_t Id(int64_t n) { return static_cast<uint32_t>(2 * n + 1); }

  StreamTotal total_;
};

TEST_F(FloodLimitsTest, LimitsResets) {
  ExpectLimit(
      guard_limits::kResetBurst, guard_limits::kResetsPerSecond,
      [](int64_t n) { return Headers(Id(n)) + http2::Reset(Id(n)); },
      CutReason::kTooManyResets);
}

// Peers that stay within their own limits, one after the other, as processes
// that fork do.
TEST_F(FloodLimitsTest, LimitsWhatThePeersOfAUserDoTogether) {
  const struct {
    int64_t burst;
    std::function<std::string(int64_t)> make;
  } kFloods[] = {
      {guard_limits::kResetBurst,
       [](int64_t n) { return Headers(Id(n)) + http2::Reset(Id(n)); }},
      {guard_limits::kHeaderByteBurst / (2 * guard_limits::kUsualHeaderBytes),
       [](int64_t n) {
         return Headers(Id(n), 2 * guard_limits::kUsualHeaderBytes);
       }},
      // The same bytes of headers in frames that are short.
      {guard_limits::kHeaderByteBurst / (2 * guard_limits::kUsualHeaderBytes),
       [](int64_t n) {
         return Headers(Id(n), guard_limits::kUsualHeaderBytes, 0x1) +
                http2::Frame(9, 0x4, Id(n),
                             std::string(guard_limits::kUsualHeaderBytes, 'h'));
       }},
      {guard_limits::kSettingsBurst, [](int64_t) { return http2::Settings(); }},
      {guard_limits::kPingBurst,
       [](int64_t) { return http2::Frame(6, 0, 0, "12345678"); }},
      {guard_limits::kUselessFrameBurst,
       [](int64_t) { return http2::Frame(99, 0, 0, ""); }},
      {guard_limits::kWindowUpdateBurst,
       [](int64_t) { return http2::WindowUpdate(0, 1); }},
  };
  for (const auto& [burst, make] : kFloods) {
    UserBudget user;
    EXPECT_TRUE(user.IsUnspent(kSecond));
    const auto spend_all = [&](UserBudget* whose) {
      PeerBudget peer(total_);
      const auto watch = Connect(peer, whose);
      CutReason reason = CutReason::kNone;
      for (int64_t n = 0; n < burst && reason == CutReason::kNone; ++n) {
        reason = Receive(*watch, make(n));
      }
      return reason;
    };
    for (int64_t i = 0; i < guard_limits::kPeersPerUser; ++i) {
      ASSERT_EQ(spend_all(&user), CutReason::kNone) << i;
    }
    EXPECT_EQ(spend_all(&user), CutReason::kTooMuchOfUser);
    EXPECT_FALSE(user.IsUnspent(kSecond));
    EXPECT_TRUE(user.IsUnspent(100 * kSecond));
    UserBudget other;
    EXPECT_EQ(spend_all(&other), CutReason::kNone);
    EXPECT_EQ(spend_all(nullptr), CutReason::kNone);
  }
}

TEST_F(FloodLimitsTest, UsualCallsCostTheirUserNothing) {
  UserBudget user;
  PeerBudget peer(total_);
  const auto watch = Connect(peer, &user);
  for (int64_t n = 0; n < 100; ++n) {
    ASSERT_EQ(Receive(*watch, Headers(Id(n), guard_limits::kUsualHeaderBytes)),
              CutReason::kNone);
  }
  EXPECT_TRUE(user.IsUnspent(kSecond));
}

TEST_F(FloodLimitsTest, AResetOfACallThatHasEndedIsFree) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  // The answer comes before the end of the request, and the client resets.
  for (int64_t n = 0; n < 10 * guard_limits::kUselessFrameBurst; ++n) {
    ASSERT_EQ(Receive(*watch, Headers(Id(n), 10, 0x4)), CutReason::kNone);
    Send(*watch, Headers(Id(n)) + http2::Reset(Id(n)));
    ASSERT_EQ(Receive(*watch, http2::Reset(Id(n))), CutReason::kNone) << n;
  }
  // All that it may cancel is left.
  for (int64_t n = 0; n < guard_limits::kResetBurst; ++n) {
    const uint32_t id = Id(1000000 + n);
    ASSERT_EQ(Receive(*watch, Headers(id) + http2::Reset(id)), CutReason::kNone)
        << n;
  }
  EXPECT_EQ(Receive(*watch, Headers(Id(2000000)) + http2::Reset(Id(2000000))),
            CutReason::kTooManyResets);
}

TEST_F(FloodLimitsTest, AnEndedCallExplainsOneReset) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  constexpr int64_t kCalls = 10;
  for (int64_t n = 0; n < kCalls; ++n) {
    Receive(*watch, Headers(Id(n)));
    Send(*watch, Headers(Id(n)) + http2::Reset(Id(n)));
  }
  for (int64_t n = 0; n < kCalls + guard_limits::kUselessFrameBurst; ++n) {
    ASSERT_EQ(Receive(*watch, http2::Reset(1)), CutReason::kNone) << n;
  }
  EXPECT_EQ(Receive(*watch, http2::Reset(1)), CutReason::kTooManyUselessFrames);
}

TEST_F(FloodLimitsTest, LimitsSettings) {
  ExpectLimit(
      guard_limits::kSettingsBurst, guard_limits::kSettingsPerSecond,
      [](int64_t) { return http2::Settings(); }, CutReason::kTooManySettings);
}

TEST_F(FloodLimitsTest, LimitsPings) {
  ExpectLimit(
      guard_limits::kPingBurst, guard_limits::kPingsPerSecond,
      [](int64_t) { return http2::Frame(6, 0, 0, "12345678"); },
      CutReason::kTooManyPings);
}

TEST_F(FloodLimitsTest, LimitsWindowUpdates) {
  ExpectLimit(
      guard_limits::kWindowUpdateBurst, guard_limits::kWindowUpdatesPerSecond,
      [](int64_t) { return http2::WindowUpdate(0, 1); },
      CutReason::kTooManyWindowUpdates);
}

TEST_F(FloodLimitsTest, LimitsFramesThatCarryNothing) {
  for (const std::string& frame :
       {http2::Frame(0, 0, 1, ""), http2::Frame(2, 0, 1, "12345"),
        http2::Frame(5, 0, 1, "1234"), http2::Frame(7, 0, 0, "12345678"),
        http2::Frame(99, 0, 1, "unknown"), http2::Reset(1),
        http2::Frame(4, 0x1, 0, ""), http2::Frame(6, 0x1, 0, "12345678")}) {
    ExpectLimit(
        guard_limits::kUselessFrameBurst, guard_limits::kUselessFramesPerSecond,
        [&](int64_t) { return frame; }, CutReason::kTooManyUselessFrames);
  }
}

TEST_F(FloodLimitsTest, LimitsNewStreams) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  // Each is answered at once.
  const auto call = [&](int64_t n) {
    const CutReason reason = Receive(*watch, Headers(Id(n), 0));
    Send(*watch, Headers(Id(n), 0));
    return reason;
  };
  for (int64_t n = 0; n < guard_limits::kStreamBurst; ++n) {
    ASSERT_EQ(call(n), CutReason::kNone) << n;
  }
  EXPECT_EQ(call(guard_limits::kStreamBurst), CutReason::kTooManyStreams);
}

TEST_F(FloodLimitsTest, LimitsHeaderBytes) {
  constexpr int64_t kBytes = 16384;
  ExpectLimit(
      guard_limits::kHeaderByteBurst / kBytes,
      guard_limits::kHeaderBytesPerSecond / kBytes,
      [](int64_t) { return Headers(1, kBytes); },
      CutReason::kTooManyHeaderBytes);
}

TEST_F(FloodLimitsTest, LimitsTheHeadersOfOneCall) {
  PeerBudget peer(total_);
  const auto fine = Connect(peer);
  constexpr size_t kHalf = guard_limits::kMaxHeaderBlockBytes / 2;
  EXPECT_EQ(
      Receive(*fine, Headers(1, kHalf, 0) +
                         http2::Frame(9, 0x4, 1, std::string(kHalf, 'h'))),
      CutReason::kNone);
  EXPECT_EQ(Receive(*fine, Headers(3, 2 * kHalf)), CutReason::kNone)
      << "the second call pays for the first";

  const auto long_block = Connect(peer);
  EXPECT_EQ(Receive(*long_block,
                    Headers(1, kHalf, 0) +
                        http2::Frame(9, 0x4, 1, std::string(kHalf + 1, 'h'))),
            CutReason::kHeaderBlockTooLong);
}

TEST_F(FloodLimitsTest, LimitsContinuations) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  for (const uint32_t id : {1, 3}) {
    EXPECT_EQ(Receive(*watch, Headers(id, 0, 0)), CutReason::kNone);
    for (int i = 0; i < guard_limits::kMaxContinuationsPerBlock; ++i) {
      EXPECT_EQ(Receive(*watch, http2::Frame(9, 0, id, "")), CutReason::kNone);
    }
  }
  EXPECT_EQ(Receive(*watch, http2::Frame(9, 0, 3, "")),
            CutReason::kTooManyContinuations);
}

TEST_F(FloodLimitsTest, LimitsTheLengthOfControlFrames) {
  PeerBudget peer(total_);
  const std::string longest(guard_limits::kMaxControlFrameBytes, '\0');
  for (const int type : {1, 2, 3, 4, 5, 6, 7, 8, 9, 99}) {
    EXPECT_EQ(Receive(*Connect(peer), http2::Frame(type, 0, 1, longest)),
              CutReason::kNone)
        << type;
    EXPECT_EQ(Receive(*Connect(peer), http2::Frame(type, 0, 1, longest + '\0')),
              CutReason::kFrameTooLong)
        << type;
  }
  EXPECT_EQ(Receive(*Connect(peer),
                    http2::Frame(0, 0, 1, std::string(1 << 22, '\0'))),
            CutReason::kNone);
}

TEST_F(FloodLimitsTest, LimitsTinyReads) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  for (int64_t n = 0; n < guard_limits::kTinyReadBurst; ++n) {
    ASSERT_EQ(watch->ReadReturned(8, kSecond), CutReason::kNone);
    ASSERT_EQ(watch->ReadReturned(9, kSecond), CutReason::kNone);
  }
  EXPECT_EQ(watch->ReadReturned(8, kSecond), CutReason::kTooManyTinyReads);
}

TEST_F(FloodLimitsTest, LimitsTheOpenStreamsOfAPeerOverAllItsConnections) {
  PeerBudget peer(total_);
  auto first = Connect(peer);
  const auto second = Connect(peer);
  for (int64_t n = 0; n < guard_limits::kMaxOpenStreamsPerPeer; ++n) {
    ASSERT_EQ(Receive(n % 2 == 0 ? *first : *second, Headers(Id(n))),
              CutReason::kNone);
  }
  const auto third = Connect(peer);
  EXPECT_EQ(Receive(*third, Headers(1)), CutReason::kTooManyOpenStreams);

  // A connection that ends takes its streams along.
  first.reset();
  EXPECT_EQ(total_.open, guard_limits::kMaxOpenStreamsPerPeer / 2);
  EXPECT_EQ(Receive(*Connect(peer), Headers(1)), CutReason::kNone);
}

TEST_F(FloodLimitsTest, AStreamIsOpenUntilItsLastFrame) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  Receive(*watch, Headers(1));
  EXPECT_EQ(total_.open, 1);
  Receive(*watch, Headers(1));  // trailers
  EXPECT_EQ(total_.open, 1);
  Send(*watch, Headers(1, 10, 0x4) + http2::Frame(0, 0, 1, "data"));
  EXPECT_EQ(total_.open, 1);
  Send(*watch, Headers(1));
  EXPECT_EQ(total_.open, 0);

  Receive(*watch, Headers(3) + http2::Reset(3) + http2::Reset(3));
  EXPECT_EQ(total_.open, 0);
  Receive(*watch, Headers(5));
  Send(*watch, http2::Reset(5) + http2::Reset(5));
  EXPECT_EQ(total_.open, 0);
  // Not new: gRPC ignores it, or ends the connection.
  Receive(*watch, Headers(5));
  EXPECT_EQ(total_.open, 0);
}

TEST_F(FloodLimitsTest, WhenAllStreamsAreTakenEveryPeerStillHasSome) {
  std::vector<std::unique_ptr<PeerBudget>> peers;
  std::vector<std::unique_ptr<ConnectionWatch>> watches;
  for (int64_t n = 0; n < guard_limits::kMaxOpenStreams; ++n) {
    if (n % guard_limits::kMaxOpenStreamsPerPeer == 0) {
      peers.push_back(std::make_unique<PeerBudget>(total_));
      watches.push_back(Connect(*peers.back()));
    }
    ASSERT_EQ(Receive(*watches.back(), Headers(Id(n))), CutReason::kNone);
  }
  PeerBudget late(total_);
  const auto watch = Connect(late);
  for (int64_t n = 0; n < guard_limits::kGuaranteedStreamsPerPeer; ++n) {
    EXPECT_EQ(Receive(*watch, Headers(Id(n))), CutReason::kNone) << n;
  }
  EXPECT_EQ(
      Receive(*watch, Headers(Id(guard_limits::kGuaranteedStreamsPerPeer))),
      CutReason::kTooManyOpenStreamsInAll);
  watches.clear();
}

TEST_F(FloodLimitsTest, WhatOurOwnFramesExplainIsFree) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  for (int i = 0; i < 100000; ++i) {
    Send(*watch,
         http2::Frame(0, 0, 1, "data") + http2::Frame(6, 0, 0, "12345678"));
    ASSERT_EQ(
        Receive(*watch, http2::WindowUpdate(0, 1) + http2::WindowUpdate(1, 1) +
                            http2::Frame(6, 0, 0, "12345678") +
                            http2::Frame(6, 0x1, 0, "12345678")),
        CutReason::kNone)
        << i;
  }
}

TEST_F(FloodLimitsTest, CreditDoesNotGrowForEver) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  for (int i = 0; i < 100000; ++i) {
    Send(*watch, http2::Frame(0, 0, 1, "data"));
  }
  int64_t pings = 0;
  while (Receive(*watch, http2::Frame(6, 0, 0, "12345678")) ==
         CutReason::kNone) {
    ++pings;
  }
  EXPECT_EQ(pings, 10000 + guard_limits::kPingBurst);
}

TEST_F(FloodLimitsTest, ABusyClientIsNeverCutOff) {
  PeerBudget peer(total_);
  const auto watch = Connect(peer);
  // 50,000 calls a second for 10 seconds, and a hundred cancelled each second.
  constexpr int64_t kCalls = 500000;
  for (int64_t n = 0; n < kCalls; ++n) {
    const int64_t now = kSecond + n * kSecond / 50000;
    ASSERT_EQ(Receive(*watch,
                      Headers(Id(n), 60) + http2::Frame(0, 1, Id(n), "x"), now),
              CutReason::kNone)
        << n;
    if (n % 500 == 0) {
      ASSERT_EQ(Receive(*watch, http2::Reset(Id(n)), now), CutReason::kNone);
    } else {
      Send(*watch, Headers(Id(n), 20, 0x4) + http2::Frame(0, 0, Id(n), "y") +
                       Headers(Id(n), 20));
    }
  }
  EXPECT_EQ(total_.open, 0);
}

TEST_F(FloodLimitsTest, GarbageIsNotHttp2) {
  PeerBudget peer(total_);
  ConnectionWatch watch(peer, nullptr, Transport::kPlain);
  EXPECT_EQ(Receive(watch, "GET / HTTP/1.1\r\n"), CutReason::kNotHttp2);
  ConnectionWatch tls_on_unix(peer, nullptr, Transport::kPlain);
  EXPECT_EQ(Receive(tls_on_unix, "\x16\x03\x01"), CutReason::kNotHttp2);
}

TEST_F(FloodLimitsTest, WhatTlsEncryptsIsNotLookedAt) {
  PeerBudget peer(total_);
  ConnectionWatch watch(peer, nullptr, Transport::kMaybeTls);
  EXPECT_EQ(Receive(watch, "\x16"), CutReason::kNone);
  EXPECT_EQ(Receive(watch, "anything"), CutReason::kNone);
  Send(watch, "anything");

  ConnectionWatch plain(peer, nullptr, Transport::kMaybeTls);
  EXPECT_EQ(Receive(plain, "P"), CutReason::kNone);
  EXPECT_EQ(Receive(plain, "\x16"), CutReason::kNotHttp2);
}

TEST_F(FloodLimitsTest, EveryReasonHasANameOfItsOwn) {
  std::set<std::string> names;
  for (int i = 0; i < static_cast<int>(CutReason::kCount); ++i) {
    names.emplace(NameOf(static_cast<CutReason>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(CutReason::kCount));
}

}  // namespace
}  // namespace tdp::server
