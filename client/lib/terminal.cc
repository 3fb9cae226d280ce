#include "client/lib/terminal.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "absl/strings/string_view.h"

namespace tdp::client {
namespace {

absl::string_view Environment(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

TerminalSize SizeOf(int fd) {
  TerminalSize size;
  winsize window = {};
  // A terminal that does not know its size says 0.
  if (ioctl(fd, TIOCGWINSZ, &window) != 0) return size;
  if (window.ws_col > 0) size.columns = window.ws_col;
  if (window.ws_row > 0) size.rows = window.ws_row;
  return size;
}

}  // namespace

Terminal TerminalOf(int fd) {
  Terminal terminal;
  const absl::string_view type = Environment("TERM");
  if (isatty(fd) == 0 || type.empty() || type == "dumb") return terminal;
  terminal.size = [fd] { return SizeOf(fd); };
  terminal.colors = Environment("NO_COLOR").empty();
  return terminal;
}

}  // namespace tdp::client
