#include "client/lib/progress_bar.h"

#include <optional>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr char kErased[] = "\r\x1b[K";

class ProgressBarTest : public ::testing::Test {
 protected:
  ProgressBar::Place Place() {
    return {out_,
            {.size = [this] { return TerminalSize{columns_, 24}; }},
            [this] { return now_; }};
  }

  // What was drawn since the last time.
  std::string Drawn() {
    const std::string text = out_.str();
    out_.str("");
    return text;
  }

  absl::Time now_ = absl::FromUnixSeconds(1700000000);
  int columns_ = 80;
  std::ostringstream out_;
};

TEST_F(ProgressBarTest, ACallOfLessThanASecondStaysQuiet) {
  {
    ProgressBar bar(Place(), "map", kGib);
    bar.Update(0);
    now_ += absl::Milliseconds(999);
    bar.Update(kGib);
    bar.Erase();
  }
  EXPECT_EQ(Drawn(), "");
}

TEST_F(ProgressBarTest, TheBarTellsShareRateAndTimeLeft) {
  ProgressBar bar(Place(), "map", 4 * kGib);
  now_ += absl::Seconds(1);
  bar.Update(kGib);
  EXPECT_EQ(Drawn(), std::string(kErased) +
                         "map [##########..............................]  25%  "
                         "1.00 GiB/s  0:03 left");
  now_ += absl::Seconds(1);
  bar.Update(4 * kGib);
  EXPECT_EQ(Drawn(), std::string(kErased) +
                         "map [########################################] 100%  "
                         "2.00 GiB/s  0:00 left");
}

TEST_F(ProgressBarTest, ABarIsDrawnTenTimesASecondAtMost) {
  ProgressBar bar(Place(), "map", kGib);
  now_ += absl::Seconds(1);
  bar.Update(kMib);
  EXPECT_NE(Drawn(), "");
  for (int ms = 1; ms < 100; ++ms) {
    now_ += absl::Milliseconds(1);
    bar.Update(2 * kMib);
    EXPECT_EQ(Drawn(), "") << ms;
  }
  now_ += absl::Milliseconds(1);
  bar.Update(3 * kMib);
  EXPECT_NE(Drawn(), "");
}

TEST_F(ProgressBarTest, AVisibleBarIsErasedOnce) {
  {
    ProgressBar bar(Place(), "map", kGib);
    now_ += absl::Seconds(2);
    bar.Update(kMib);
    Drawn();
    bar.Erase();
    EXPECT_EQ(Drawn(), kErased);
    bar.Erase();
  }
  EXPECT_EQ(Drawn(), "");
  {
    ProgressBar bar(Place(), "map", kGib);
    now_ += absl::Seconds(2);
    bar.Update(kMib);
    Drawn();
  }
  EXPECT_EQ(Drawn(), kErased);
}

TEST_F(ProgressBarTest, WithoutATerminalNothingIsDrawn) {
  {
    ProgressBar bar({out_, Terminal(), [this] { return now_; }}, "map", kGib);
    now_ += absl::Seconds(5);
    bar.Update(kMib);
  }
  EXPECT_EQ(Drawn(), "");
}

TEST_F(ProgressBarTest, WithoutATotalThereIsACountAndARate) {
  for (const std::optional<uint64_t> total :
       {std::optional<uint64_t>(), std::optional<uint64_t>(0)}) {
    ProgressBar bar(Place(), "write", total);
    now_ += absl::Seconds(2);
    bar.Update(3 * kMib);
    EXPECT_EQ(Drawn(), std::string(kErased) + "write 3.0M  1.5 MiB/s");
    bar.Erase();
    Drawn();
  }
}

TEST_F(ProgressBarTest, ALineNeverReachesTheEdge) {
  for (columns_ = 0; columns_ < 120; ++columns_) {
    ProgressBar bar(Place(), "collapse", kGib);
    now_ += absl::Seconds(1);
    bar.Update(kGib / 2);
    const std::string line = Drawn().substr(sizeof(kErased) - 1);
    EXPECT_LE(static_cast<int>(line.size()), std::max(0, columns_ - 1));
    bar.Erase();
    Drawn();
  }
}

TEST_F(ProgressBarTest, ANarrowTerminalGetsTheFiguresAlone) {
  columns_ = 46;
  ProgressBar bar(Place(), "map", kGib);
  now_ += absl::Seconds(1);
  bar.Update(kGib / 2);
  EXPECT_THAT(Drawn(), HasSubstr("map [#"));
  columns_ = 44;
  now_ += absl::Seconds(1);
  bar.Update(kGib / 2);
  EXPECT_EQ(Drawn(), std::string(kErased) + "map  50%  0.25 GiB/s  0:02 left");
}

TEST_F(ProgressBarTest, ATimeThatNobodyWaitsForIsLeftOut) {
  ProgressBar bar(Place(), "map", 1024 * kGib);
  now_ += absl::Seconds(1);
  bar.Update(0);
  EXPECT_THAT(Drawn(), Not(HasSubstr("left")));
  now_ += absl::Seconds(9);
  bar.Update(kGib);
  EXPECT_THAT(Drawn(), HasSubstr("0%  0.10 GiB/s  2:50:30 left"));
}

TEST_F(ProgressBarTest, MoreThanAllIsAll) {
  ProgressBar bar(Place(), "zap", kMib);
  now_ += absl::Seconds(1);
  bar.Update(5 * kMib);  // a huge mapping at the end was zapped whole
  EXPECT_THAT(Drawn(), HasSubstr("100%"));
}

}  // namespace
}  // namespace tdp::client
