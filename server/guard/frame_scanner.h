// FrameScanner: finds the frames in one direction of an HTTP/2 connection.
//
// It is fed the bytes in pieces of any size, looks at the 9 bytes that each
// frame begins with, and skips the rest. It allocates nothing and copies
// nothing but those 9 bytes.
//
// Thread safety: none.

#ifndef SERVER_GUARD_FRAME_SCANNER_H_
#define SERVER_GUARD_FRAME_SCANNER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tdp::server {

enum class FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kResetStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};

struct FrameHeader {
  static constexpr uint8_t kEndStream = 0x1;  // of data and headers
  static constexpr uint8_t kAck = 0x1;        // of settings and pings
  static constexpr uint8_t kEndHeaders = 0x4;

  uint32_t length = 0;  // of what follows
  FrameType type = FrameType::kData;
  uint8_t flags = 0;
  uint32_t stream_id = 0;

  bool Has(uint8_t flag) const { return (flags & flag) != 0; }
};

class FrameScanner {
 public:
  // What a client sends begins with a preface; what a server sends does not.
  enum class Start { kPreface, kFrame };

  explicit FrameScanner(Start start)
      : preface_left_(start == Start::kPreface ? kPrefaceBytes : 0) {}

  // Calls `on_frame(const FrameHeader&)`, which returns whether to go on, for
  // each frame whose header ends in these bytes. False if it said no, or if the
  // preface is wrong: the scanner must not be used any more.
  template <typename OnFrame>
  bool Scan(const uint8_t* bytes, size_t count, OnFrame&& on_frame) {
    while (count > 0) {
      size_t used;
      if (preface_left_ > 0) {
        used = std::min(count, preface_left_);
        if (memcmp(kPreface + kPrefaceBytes - preface_left_, bytes, used) !=
            0) {
          return false;
        }
        preface_left_ -= used;
      } else if (payload_left_ > 0) {
        used = std::min<size_t>(count, payload_left_);
        payload_left_ -= static_cast<uint32_t>(used);
      } else {
        used = std::min(count, kHeaderBytes - header_filled_);
        memcpy(header_ + header_filled_, bytes, used);
        header_filled_ += used;
        if (header_filled_ == kHeaderBytes) {
          header_filled_ = 0;
          const FrameHeader frame = Parse();
          payload_left_ = frame.length;
          if (!on_frame(frame)) return false;
        }
      }
      bytes += used;
      count -= used;
    }
    return true;
  }

  // No byte of the preface is missing any more.
  bool past_preface() const { return preface_left_ == 0; }

 private:
  static constexpr size_t kHeaderBytes = 9;
  static constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  static constexpr size_t kPrefaceBytes = sizeof(kPreface) - 1;

  FrameHeader Parse() const {
    const uint8_t* h = header_;
    return {
        .length = uint32_t{h[0]} << 16 | uint32_t{h[1]} << 8 | h[2],
        .type = static_cast<FrameType>(h[3]),
        .flags = h[4],
        // The top bit is reserved.
        .stream_id = (uint32_t{h[5]} & 0x7f) << 24 | uint32_t{h[6]} << 16 |
                     uint32_t{h[7]} << 8 | h[8],
    };
  }

  size_t preface_left_;
  uint32_t payload_left_ = 0;
  size_t header_filled_ = 0;
  uint8_t header_[kHeaderBytes] = {};
};

}  // namespace tdp::server

#endif  // SERVER_GUARD_FRAME_SCANNER_H_
