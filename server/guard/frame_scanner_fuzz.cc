// Feeds arbitrary bytes to the frame scanner: however they are split, the same
// frames are found, and no byte outside of a piece is read.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "server/guard/frame_scanner.h"

namespace {

using tdp::server::FrameHeader;
using tdp::server::FrameScanner;

struct Found {
  std::vector<FrameHeader> frames;
  bool fine = true;
};

bool Same(const Found& a, const Found& b) {
  if (a.fine != b.fine || a.frames.size() != b.frames.size()) return false;
  for (size_t i = 0; i < a.frames.size(); ++i) {
    const FrameHeader& x = a.frames[i];
    const FrameHeader& y = b.frames[i];
    if (x.length != y.length || x.type != y.type || x.flags != y.flags ||
        x.stream_id != y.stream_id) {
      return false;
    }
  }
  return true;
}

// Scans the bytes in pieces of the sizes that `next_size` gives. Each piece is
// a heap block of its own, so that the address sanitizer sees its ends.
template <typename NextSize>
Found Scan(FrameScanner::Start start, const uint8_t* data, size_t size,
           NextSize&& next_size) {
  FrameScanner scanner(start);
  Found found;
  while (size > 0 && found.fine) {
    size_t count = next_size();
    if (count > size) count = size;
    const auto piece = std::make_unique<uint8_t[]>(count);
    for (size_t i = 0; i < count; ++i) piece[i] = data[i];
    found.fine =
        scanner.Scan(piece.get(), count, [&](const FrameHeader& frame) {
          if (frame.length >> 24 != 0 || frame.stream_id >> 31 != 0) abort();
          found.frames.push_back(frame);
          return true;
        });
    data += count;
    size -= count;
  }
  return found;
}

}  // namespace

// The first byte says how the rest is split.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t seed = data[0];
  ++data;
  --size;
  for (const auto start :
       {FrameScanner::Start::kPreface, FrameScanner::Start::kFrame}) {
    const Found whole = Scan(start, data, size, [&] { return size; });
    const Found bytes = Scan(start, data, size, [] { return size_t{1}; });
    uint32_t state = seed + 1;
    const Found mixed = Scan(start, data, size, [&] {
      state = state * 1664525 + 1013904223;
      return size_t{1} + (state >> 24) % 40;
    });
    if (!Same(whole, bytes) || !Same(whole, mixed)) abort();
    // Frames lie apart by their lengths, so there cannot be more than these.
    if (whole.frames.size() > size / 9) abort();
  }
  return 0;
}
