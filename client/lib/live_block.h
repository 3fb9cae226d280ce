// A block of lines that is shown again and again: on a terminal each takes the
// place of the one before, elsewhere they follow each other.
//
// Thread safety: one thread at a time.

#ifndef CLIENT_LIB_LIVE_BLOCK_H_
#define CLIENT_LIB_LIVE_BLOCK_H_

#include <ostream>

#include "absl/strings/string_view.h"
#include "client/lib/terminal.h"

namespace tdp::client {

class LiveBlock {
 public:
  LiveBlock(Terminal terminal, std::ostream& out);

  // Shows `text`, whole lines. On a terminal, lines that are too long are cut
  // at its edge, and lines that are too many are left out: what has scrolled
  // away could not be redrawn. Elsewhere an empty line parts two blocks.
  // The text goes out in one write: an interrupt cannot leave half a code.
  void Show(absl::string_view text);

 private:
  void Redraw(absl::string_view text);

  const Terminal terminal_;
  std::ostream& out_;
  bool shown_ = false;
  int line_count_ = 0;  // on the terminal
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_LIVE_BLOCK_H_
