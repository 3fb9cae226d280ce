#include "client/lib/progress_bar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/lib/words.h"

namespace tdp::client {
namespace {

constexpr absl::Duration kQuietTime = absl::Seconds(1);
constexpr absl::Duration kRedrawTime = absl::Milliseconds(100);
constexpr char kEraseLine[] = "\r\x1b[K";
constexpr int kMinBarWidth = 10;
constexpr int kMaxBarWidth = 40;
constexpr double kBytesPerMib = 1 << 20;
constexpr double kBytesPerGib = 1 << 30;
constexpr int64_t kMaxSecondsLeft = 100 * 3600;

std::string RateText(double bytes_per_second) {
  const double gib = bytes_per_second / kBytesPerGib;
  return gib < 0.1
             ? absl::StrFormat("%.1f MiB/s", bytes_per_second / kBytesPerMib)
             : absl::StrFormat("%.2f GiB/s", gib);
}

// "0:07", "12:00", "1:00:00"; "" for what is no sensible time.
std::string TimeText(double seconds) {
  if (!(seconds < static_cast<double>(kMaxSecondsLeft))) return "";
  const int64_t whole = static_cast<int64_t>(seconds + 0.5);
  const int64_t minutes = whole / 60;
  return minutes < 60 ? absl::StrFormat("%d:%02d", minutes, whole % 60)
                      : absl::StrFormat("%d:%02d:%02d", minutes / 60,
                                        minutes % 60, whole % 60);
}

std::string Bar(double share, int width) {
  const int full = static_cast<int>(share * width);
  return absl::StrCat("[", std::string(full, '#'),
                      std::string(width - full, '.'), "]");
}

}  // namespace

ProgressBar::ProgressBar(Place place, std::string verb,
                         std::optional<uint64_t> total_bytes)
    : place_(std::move(place)),
      verb_(std::move(verb)),
      total_bytes_(total_bytes),
      start_(place_.now()) {}

ProgressBar::~ProgressBar() { Erase(); }

void ProgressBar::Update(uint64_t done_bytes) {
  if (!place_.terminal.exists()) return;
  const absl::Time now = place_.now();
  if (now - start_ < kQuietTime || now - last_drawn_ < kRedrawTime) return;
  last_drawn_ = now;
  visible_ = true;
  place_.out << kEraseLine
             << Line(done_bytes, absl::ToDoubleSeconds(now - start_));
  place_.out.flush();
}

void ProgressBar::Erase() {
  if (!visible_) return;
  visible_ = false;
  place_.out << kEraseLine;
  place_.out.flush();
}

std::string ProgressBar::Line(uint64_t done_bytes, double seconds) const {
  const double rate = static_cast<double>(done_bytes) / seconds;
  // The last column stays free: a cursor past it would be on the next line.
  const int columns = std::max(0, place_.terminal.size().columns - 1);
  std::string line;
  if (!total_bytes_ || *total_bytes_ == 0) {
    line = absl::StrCat(verb_, " ", RoundSizeText(done_bytes), "  ",
                        RateText(rate));
  } else {
    const uint64_t done = std::min(done_bytes, *total_bytes_);
    const double share =
        static_cast<double>(done) / static_cast<double>(*total_bytes_);
    const std::string left =
        TimeText(static_cast<double>(*total_bytes_ - done) / rate);
    const std::string figures = absl::StrCat(
        absl::StrFormat("%3d%%", static_cast<int>(share * 100)), "  ",
        RateText(rate), left.empty() ? "" : absl::StrCat("  ", left, " left"));
    // What the verb, two spaces, two brackets and the figures leave.
    const int room =
        columns - static_cast<int>(verb_.size() + figures.size()) - 4;
    line = absl::StrCat(
        verb_, " ",
        room < kMinBarWidth
            ? ""
            : absl::StrCat(Bar(share, std::min(room, kMaxBarWidth)), " "),
        figures);
  }
  return line.substr(0, columns);
}

}  // namespace tdp::client
