#include "client/lib/terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

// A terminal of 100 x 30 characters.
class TerminalTest : public ::testing::Test {
 protected:
  TerminalTest() : controller_(posix_openpt(O_RDWR | O_NOCTTY)) {
    EXPECT_EQ(grantpt(controller_), 0);
    EXPECT_EQ(unlockpt(controller_), 0);
    terminal_ = open(ptsname(controller_), O_RDWR | O_NOCTTY);
    EXPECT_GE(terminal_, 0);
    Resize(100, 30);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
  }
  ~TerminalTest() override {
    close(terminal_);
    close(controller_);
  }

  void Resize(uint16_t columns, uint16_t rows) {
    winsize window = {};
    window.ws_col = columns;
    window.ws_row = rows;
    EXPECT_EQ(ioctl(terminal_, TIOCSWINSZ, &window), 0);
  }

  const int controller_;
  int terminal_ = -1;
};

TEST_F(TerminalTest, ATerminalTellsItsSizeAsItIsNow) {
  const Terminal terminal = TerminalOf(terminal_);
  ASSERT_TRUE(terminal.exists());
  EXPECT_TRUE(terminal.colors);
  EXPECT_EQ(terminal.size().columns, 100);
  EXPECT_EQ(terminal.size().rows, 30);
  Resize(40, 10);
  EXPECT_EQ(terminal.size().columns, 40);
  EXPECT_EQ(terminal.size().rows, 10);
}

TEST_F(TerminalTest, ATerminalThatDoesNotKnowItsSizeHasTheUsualOne) {
  Resize(0, 0);
  const Terminal terminal = TerminalOf(terminal_);
  EXPECT_EQ(terminal.size().columns, 80);
  EXPECT_EQ(terminal.size().rows, 24);
}

TEST_F(TerminalTest, NoColorTurnsColorsOffUnlessItIsEmpty) {
  setenv("NO_COLOR", "1", 1);
  EXPECT_TRUE(TerminalOf(terminal_).exists());
  EXPECT_FALSE(TerminalOf(terminal_).colors);
  setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(TerminalOf(terminal_).colors);
}

TEST_F(TerminalTest, AFileAPipeAndADumbTerminalAreNone) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_FALSE(TerminalOf(ends[1]).exists());
  close(ends[0]);
  close(ends[1]);
  const int file = open("/dev/null", O_WRONLY);
  EXPECT_FALSE(TerminalOf(file).exists());
  close(file);
  EXPECT_FALSE(TerminalOf(-1).exists());
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(TerminalOf(terminal_).exists());
  unsetenv("TERM");
  EXPECT_FALSE(TerminalOf(terminal_).exists());
}

}  // namespace
}  // namespace tdp::client
