// Whether a stream of text ends at a terminal, and what that terminal can do.
//
// Thread safety: free function on values; `size` may be called from any thread.

#ifndef CLIENT_LIB_TERMINAL_H_
#define CLIENT_LIB_TERMINAL_H_

#include <functional>

namespace tdp::client {

// In characters.
struct TerminalSize {
  int columns = 80;
  int rows = 24;
};

// A Terminal that was made by default is none: a file or a pipe, which gets no
// control codes.
struct Terminal {
  // The size now: people pull at windows. Empty for what is no terminal.
  std::function<TerminalSize()> size;
  bool colors = false;

  bool exists() const { return size != nullptr; }
};

// The terminal behind a file descriptor, which stays the caller's. One that
// cannot move its cursor (TERM=dumb) counts as none; NO_COLOR turns colours off
// as https://no-color.org has it.
Terminal TerminalOf(int fd);

}  // namespace tdp::client

#endif  // CLIENT_LIB_TERMINAL_H_
