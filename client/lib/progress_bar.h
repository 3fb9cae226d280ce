// A bar on a terminal that tells how far a long call has got.
//
// It shows after a second, so that short calls stay quiet, and no more than ten
// times a second. It takes no thread of its own: a daemon answers ranged calls
// piece by piece, and each piece is a time to look at the clock.
//
// Thread safety: one thread at a time.

#ifndef CLIENT_LIB_PROGRESS_BAR_H_
#define CLIENT_LIB_PROGRESS_BAR_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>

#include "absl/time/time.h"
#include "client/lib/terminal.h"

namespace tdp::client {

using Clock = std::function<absl::Time()>;

class ProgressBar {
 public:
  // Where bars are drawn; never if the terminal does not exist.
  struct Place {
    std::ostream& out;
    Terminal terminal;
    Clock now;
  };

  // The call starts now. `verb` stands before the bar; without `total_bytes`
  // there is only a count and a rate.
  ProgressBar(Place place, std::string verb,
              std::optional<uint64_t> total_bytes);
  // Erases the bar.
  ~ProgressBar();

  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `done_bytes` of guest memory have been handled.
  void Update(uint64_t done_bytes);
  // Leaves the line empty for what comes next; Update() may draw again.
  void Erase();

 private:
  std::string Line(uint64_t done_bytes, double seconds) const;

  const Place place_;
  const std::string verb_;
  const std::optional<uint64_t> total_bytes_;
  const absl::Time start_;
  absl::Time last_drawn_ = absl::InfinitePast();
  bool visible_ = false;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_PROGRESS_BAR_H_
