// Arithmetic on ranges of frames. An input is five numbers: a byte that names
// an edge, and one that is added to it as a signed number; edge 255 is followed
// by eight bytes that are the number.

#include <cstdint>
#include <iterator>

#include "engine/base/range_properties.h"
#include "engine/base/types.h"

namespace tdp {
namespace {

constexpr uint8_t kAnyNumber = 255;
constexpr uint8_t kShifts[] = {0,  6,  9,  12, 15, 18, 19, 27, 31,
                               32, 36, 40, 45, 51, 52, 63, 64};

struct Input {
  const uint8_t* data;
  size_t size;

  uint8_t Byte() {
    if (size == 0) return 0;
    --size;
    return *data++;
  }
  uint64_t Number() {
    const uint8_t kind = Byte();
    if (kind != kAnyNumber) {
      const int shift = kShifts[kind % std::size(kShifts)];
      const uint64_t edge = shift == 64 ? 0 : uint64_t{1} << shift;
      return edge + static_cast<uint64_t>(
                        static_cast<int64_t>(static_cast<int8_t>(Byte())));
    }
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(number); ++i) number = number << 8 | Byte();
    return number;
  }
};

}  // namespace
}  // namespace tdp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tdp::Input input{data, size};
  const tdp::Gfn start(input.Number());
  const tdp::Gfn end(input.Number());
  const tdp::Gfn other_start(input.Number());
  const tdp::Gfn other_end(input.Number());
  const uint64_t gfn = input.Number();
  tdp::CheckRangeProperties({start, end}, {other_start, other_end}, gfn);
  return 0;
}
