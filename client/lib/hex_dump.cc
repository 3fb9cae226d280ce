#include "client/lib/hex_dump.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

constexpr size_t kBytesPerLine = 16;

}  // namespace

HexDump::HexDump(uint64_t first_address, std::ostream& out)
    : out_(out), address_(first_address) {}

void HexDump::Append(absl::string_view bytes) {
  while (!bytes.empty()) {
    const size_t count = kBytesPerLine - pending_.size();
    absl::StrAppend(&pending_, bytes.substr(0, count));
    bytes.remove_prefix(std::min(count, bytes.size()));
    if (pending_.size() < kBytesPerLine) return;
    PrintLine(pending_);
    pending_.clear();
  }
}

void HexDump::Finish() {
  if (!pending_.empty()) PrintLine(pending_);
  out_ << absl::StrFormat("%08x\n", address_);
}

void HexDump::PrintLine(absl::string_view line) {
  if (line == previous_) {
    if (!folding_) out_ << "*\n";
    folding_ = true;
    address_ += line.size();
    return;
  }
  folding_ = false;
  std::string hex;
  std::string text;
  for (size_t i = 0; i < kBytesPerLine; ++i) {
    if (i % 8 == 0) hex += ' ';
    if (i >= line.size()) {
      hex += "   ";
      continue;
    }
    const unsigned char byte = line[i];
    absl::StrAppendFormat(&hex, " %02x", byte);
    text += absl::ascii_isprint(byte) ? line[i] : '.';
  }
  out_ << absl::StrFormat("%08x%s  |%s|\n", address_, hex, text);
  address_ += line.size();
  previous_ = std::string(line);
}

absl::StatusOr<std::string> ParseHexBytes(absl::string_view text) {
  absl::string_view rest = text;
  absl::ConsumePrefix(&rest, "0x");
  std::string digits;
  for (const char c : rest) {
    if ((c == ' ' || c == ':') && digits.size() % 2 == 0) continue;
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", text, "\" is not hexadecimal; write e.g. 90f4 or \"90 f4\""));
    }
    digits += c;
  }
  if (digits.empty() || digits.size() % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" needs two hexadecimal digits for each byte"));
  }
  return absl::HexStringToBytes(digits);
}

}  // namespace tdp::client
