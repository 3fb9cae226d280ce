#include "server/base/command_line.h"

#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

ABSL_FLAG(std::string, animal, "cat", "Which animal to show to the user.");
ABSL_FLAG(bool, loud, false, "Make a noise.");
ABSL_FLAG(int, legs, 4, "How many legs the animal has, front and back.");

namespace tdp::server {
namespace {

constexpr char kFile[] = "server/base/command_line_test.cc";

class CommandLineTest : public testing::Test {
 protected:
  absl::StatusOr<CommandLineAction> Parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "program");
    return ParseCommandLine(kFile, static_cast<int>(arguments.size()),
                            arguments.data());
  }
  std::string ErrorOf(std::vector<const char*> arguments) {
    return std::string(Parse(std::move(arguments)).status().message());
  }

 private:
  absl::FlagSaver saver_;
};

TEST_F(CommandLineTest, TakesEachFormOfAFlag) {
  EXPECT_EQ(*Parse({}), CommandLineAction::kRun);
  EXPECT_EQ(*Parse({"--animal=dog", "--legs", "3", "--loud"}),
            CommandLineAction::kRun);
  EXPECT_EQ(absl::GetFlag(FLAGS_animal), "dog");
  EXPECT_EQ(absl::GetFlag(FLAGS_legs), 3);
  EXPECT_TRUE(absl::GetFlag(FLAGS_loud));
  ASSERT_TRUE(Parse({"-noloud", "-animal="}).ok());
  EXPECT_FALSE(absl::GetFlag(FLAGS_loud));
  EXPECT_EQ(absl::GetFlag(FLAGS_animal), "");
}

TEST_F(CommandLineTest, KnowsHelpAndVersion) {
  EXPECT_EQ(*Parse({"--help"}), CommandLineAction::kShowHelp);
  EXPECT_EQ(*Parse({"-h"}), CommandLineAction::kShowHelp);
  EXPECT_EQ(*Parse({"--loud", "--version"}), CommandLineAction::kShowVersion);
}

TEST_F(CommandLineTest, NamesWhatItCannotTake) {
  EXPECT_EQ(ErrorOf({"--nonsense=1"}), "--nonsense=1 is unknown; see --help");
  EXPECT_EQ(ErrorOf({"--nonsense"}), "--nonsense is unknown; see --help");
  EXPECT_EQ(ErrorOf({"--noanimal"}), "--noanimal is unknown; see --help");
  EXPECT_EQ(ErrorOf({"--flagfile=/etc/passwd"}),
            "--flagfile=/etc/passwd is unknown; see --help");
  EXPECT_EQ(ErrorOf({"cat"}), "cat is not a flag; see --help");
  EXPECT_EQ(ErrorOf({"-"}), "- is not a flag; see --help");
  EXPECT_EQ(ErrorOf({"--legs"}), "--legs needs a value");
  EXPECT_TRUE(absl::StartsWith(ErrorOf({"--legs=x"}),
                               "--legs=x is no value of that flag"));
  EXPECT_TRUE(absl::StartsWith(ErrorOf({"--loud=maybe"}),
                               "--loud=maybe is no value of that flag"));
}

TEST_F(CommandLineTest, DescribesTheFlagsOfOneFile) {
  EXPECT_EQ(DescribeFlags(kFile),
            "  --animal (default: cat)\n"
            "      Which animal to show to the user.\n"
            "  --legs (default: 4)\n"
            "      How many legs the animal has, front and back.\n"
            "  --loud (default: false)\n"
            "      Make a noise.\n");
}

}  // namespace
}  // namespace tdp::server
