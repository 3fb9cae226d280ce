// Small pieces of human-readable output.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_WORDS_H_
#define CLIENT_LIB_WORDS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tdp::client {

// "RUNNING" for the enum value name "STATE_RUNNING" and the prefix "STATE_";
// "-" for the value that is not set.
std::string EnumText(absl::string_view value_name, absl::string_view prefix);

// "1 frame", "2 frames".
std::string CountText(int64_t count, absl::string_view noun);
// "1 entry", "2 entries".
std::string CountText(int64_t count, absl::string_view singular,
                      absl::string_view plural);
// "256 frames (1M)".
std::string FramesText(int64_t count);
// A size to one digit: "0", "4.0K", "1.5M", "12.3G".
std::string RoundSizeText(uint64_t bytes);
// "12.5%"; "-" of nothing.
std::string ShareText(int64_t part, int64_t whole);

}  // namespace tdp::client

#endif  // CLIENT_LIB_WORDS_H_
