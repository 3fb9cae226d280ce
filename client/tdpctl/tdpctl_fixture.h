// Runs tdpctl's command line against a FakeServer.

#ifndef CLIENT_TDPCTL_TDPCTL_FIXTURE_H_
#define CLIENT_TDPCTL_TDPCTL_FIXTURE_H_

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/lib/progress_bar.h"
#include "client/lib/terminal.h"
#include "client/tdpctl/command_line.h"
#include "client/testing/fake_server.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace tdp::client {

struct Outcome {
  int exit_code = 0;
  std::string out;
  std::string err;
};

// The terminals that the command line finds, and its clock.
struct Console {
  Terminal out = {};
  Terminal err = {};
  Clock now = absl::Now;
};

inline Outcome RunWith(std::vector<std::string> args,
                       const std::string& input = "",
                       const Console& console = {}) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  const int exit_code = RunTdpctl(
      std::move(args), {in, out, err, console.out, console.err, console.now});
  return {exit_code, out.str(), err.str()};
}

class TdpctlTest : public ::testing::Test {
 protected:
  // Runs "tdpctl --target=... ARGS", which must not fail. Errors are not
  // repeated, so that each shows.
  std::string Run(std::vector<std::string> args,
                  const std::string& input = "") {
    const Outcome outcome = RunAny(std::move(args), input);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }

  Outcome RunAny(std::vector<std::string> args, const std::string& input = "") {
    args.push_back("--target=" + server_.target());
    args.push_back("--retries=0");
    return RunWith(std::move(args), input, console_);
  }

  FakeServer server_;
  Console console_;
};

// Compares a message with its text form; unset fields count as different.
MATCHER_P(EqualsProto, text, "") {
  std::decay_t<decltype(arg)> expected;
  if (!google::protobuf::TextFormat::ParseFromString(text, &expected)) {
    *result_listener << "which cannot be compared with bad text";
    return false;
  }
  std::string differences;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&differences);
  const bool equal = differencer.Compare(expected, arg);
  *result_listener << differences;
  return equal;
}

// A message from its text form.
template <typename Message>
Message Proto(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_TDPCTL_FIXTURE_H_
