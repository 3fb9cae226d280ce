// Bytes as text: a hex dump, and hexadecimal digits back to bytes.
//
// Thread safety: one thread at a time for each HexDump.

#ifndef CLIENT_LIB_HEX_DUMP_H_
#define CLIENT_LIB_HEX_DUMP_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::client {

// Prints 16 bytes a line. Lines equal to the one before are folded into "*",
// and the end address comes last, as `hexdump -C` does it.
class HexDump {
 public:
  HexDump(uint64_t first_address, std::ostream& out);

  void Append(absl::string_view bytes);
  // Prints what is left. Nothing may be appended afterwards.
  void Finish();

 private:
  void PrintLine(absl::string_view line);

  std::ostream& out_;
  uint64_t address_;
  std::string pending_;
  std::string previous_;
  bool folding_ = false;
};

// "90 f4", "90f4" and "0x90f4" give two bytes. Spaces and colons may stand
// between bytes.
absl::StatusOr<std::string> ParseHexBytes(absl::string_view text);

}  // namespace tdp::client

#endif  // CLIENT_LIB_HEX_DUMP_H_
