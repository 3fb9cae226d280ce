#include "client/lib/live_block.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

// ECMA-48, and DEC's switch for whether a full line goes on in the next.
constexpr char kWrapOff[] = "\x1b[?7l";
constexpr char kWrapOn[] = "\x1b[?7h";
constexpr char kClearLineRest[] = "\x1b[K";
constexpr char kClearScreenRest[] = "\x1b[J";

std::string CursorUp(int lines) {
  return lines > 0 ? absl::StrCat("\x1b[", lines, "A") : "";
}

}  // namespace

LiveBlock::LiveBlock(Terminal terminal, std::ostream& out)
    : terminal_(std::move(terminal)), out_(out) {}

void LiveBlock::Show(absl::string_view text) {
  if (terminal_.exists()) {
    Redraw(text);
  } else {
    if (shown_) out_ << '\n';
    out_ << text;
  }
  shown_ = true;
  out_.flush();
}

void LiveBlock::Redraw(absl::string_view text) {
  const TerminalSize size = terminal_.size();
  // The cursor stands below the block, on a line of its own.
  const int room = std::max(1, size.rows - 1);
  std::string screen =
      absl::StrCat(kWrapOff, "\r", CursorUp(std::min(line_count_, room)));
  line_count_ = 0;
  absl::ConsumeSuffix(&text, "\n");
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line_count_ == room) break;
    absl::StrAppend(&screen, line, kClearLineRest, "\n");
    ++line_count_;
  }
  absl::StrAppend(&screen, kClearScreenRest, kWrapOn);
  out_ << screen;
}

}  // namespace tdp::client
