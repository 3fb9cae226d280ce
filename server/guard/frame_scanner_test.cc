#include "server/guard/frame_scanner.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/testing/http2_attacker.h"

namespace tdp::server {
namespace {

struct Scanned {
  std::vector<FrameHeader> frames;
  bool fine = true;
};

// Scans `text` in pieces of `piece` bytes.
Scanned Scan(FrameScanner& scanner, const std::string& text, size_t piece) {
  Scanned scanned;
  for (size_t at = 0; at < text.size() && scanned.fine; at += piece) {
    const std::string part = text.substr(at, piece);
    scanned.fine = scanner.Scan(reinterpret_cast<const uint8_t*>(part.data()),
                                part.size(), [&](const FrameHeader& frame) {
                                  scanned.frames.push_back(frame);
                                  return true;
                                });
  }
  return scanned;
}

TEST(FrameScannerTest, FindsTheFramesHoweverTheBytesAreSplit) {
  const std::string text =
      http2::Preface() + http2::Settings(http2::Setting(4, 65535)) +
      http2::Frame(1, 0x4, 1, std::string(300, 'h')) +
      http2::Frame(0, 0x1, 0x7fffffff, "") + http2::Reset(3) +
      http2::Frame(200, 0xff, 0xffffffff, "unknown");
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    FrameScanner scanner(FrameScanner::Start::kPreface);
    const Scanned scanned = Scan(scanner, text, piece);
    ASSERT_TRUE(scanned.fine) << piece;
    ASSERT_EQ(scanned.frames.size(), 5) << piece;
    EXPECT_EQ(scanned.frames[0].type, FrameType::kSettings);
    EXPECT_EQ(scanned.frames[0].length, 6);
    EXPECT_EQ(scanned.frames[1].type, FrameType::kHeaders);
    EXPECT_EQ(scanned.frames[1].length, 300);
    EXPECT_TRUE(scanned.frames[1].Has(FrameHeader::kEndHeaders));
    EXPECT_FALSE(scanned.frames[1].Has(FrameHeader::kEndStream));
    EXPECT_EQ(scanned.frames[2].stream_id, 0x7fffffff);
    EXPECT_EQ(scanned.frames[2].length, 0);
    EXPECT_EQ(scanned.frames[3].type, FrameType::kResetStream);
    // Without the reserved bit.
    EXPECT_EQ(scanned.frames[4].stream_id, 0x7fffffff);
    EXPECT_EQ(static_cast<int>(scanned.frames[4].type), 200);
  }
}

TEST(FrameScannerTest, ReadsALengthOf24Bits) {
  FrameScanner scanner(FrameScanner::Start::kFrame);
  const std::string text("\xff\xff\xff\x00\x00\x00\x00\x00\x01", 9);
  const Scanned scanned = Scan(scanner, text, 9);
  ASSERT_EQ(scanned.frames.size(), 1);
  EXPECT_EQ(scanned.frames[0].length, 0xffffff);
  // All of it is payload.
  const std::string payload(0xffffff, '\0');
  EXPECT_TRUE(Scan(scanner, payload, 65536).frames.empty());
  EXPECT_EQ(Scan(scanner, http2::Settings(), 9).frames.size(), 1);
}

TEST(FrameScannerTest, RefusesEveryWrongByteOfThePreface) {
  const std::string preface = http2::Preface();
  for (size_t i = 0; i < preface.size(); ++i) {
    for (const size_t piece : {size_t{1}, size_t{5}, preface.size()}) {
      std::string wrong = preface;
      wrong[i] ^= 0x20;
      FrameScanner scanner(FrameScanner::Start::kPreface);
      EXPECT_FALSE(Scan(scanner, wrong, piece).fine) << i;
      EXPECT_FALSE(scanner.past_preface());
    }
  }
}

TEST(FrameScannerTest, StopsWhenItIsTold) {
  FrameScanner scanner(FrameScanner::Start::kFrame);
  const std::string text = http2::Reset(1) + http2::Reset(3);
  int seen = 0;
  EXPECT_FALSE(scanner.Scan(reinterpret_cast<const uint8_t*>(text.data()),
                            text.size(), [&](const FrameHeader&) {
                              ++seen;
                              return false;
                            }));
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace tdp::server
