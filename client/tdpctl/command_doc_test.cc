// What tdpctl says of itself: examples, completion and the manual page.

#include "client/tdpctl/command_doc.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/tdpctl/completion.h"
#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

class CommandDocTest : public TdpctlTest {
 protected:
  // What may follow, e.g. {"vm", ""} for what follows "tdpctl vm ".
  std::vector<std::string> Completions(std::vector<std::string> words) {
    words.insert(words.begin(), {"__complete", "--target=" + server_.target()});
    const Outcome outcome = RunWith(std::move(words));
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(outcome.err, "");
    return Lines(outcome.out);
  }
};

// The commands that do something, e.g. "vm create".
void AddLeaves(const std::vector<std::string>& path, const std::string& help,
               std::vector<std::string>& leaves) {
  std::vector<std::string> commands;
  bool below = false;
  for (const std::string& line : Lines(help)) {
    if (line == "Subcommands:") {
      below = true;
    } else if (below && absl::StartsWith(line, "  ") && line[2] != ' ') {
      commands.push_back(line.substr(2, line.find(' ', 2) - 2));
    } else if (below && !absl::StartsWith(line, " ")) {
      below = false;
    }
  }
  if (commands.empty()) {
    leaves.push_back(absl::StrJoin(path, " "));
    return;
  }
  for (const std::string& command : commands) {
    std::vector<std::string> child = path;
    child.push_back(command);
    std::vector<std::string> args = child;
    args.push_back("--help");
    AddLeaves(child, RunWith(args).out, leaves);
  }
}

TEST_F(CommandDocTest, EachCommandShowsAnExampleInItsHelp) {
  std::vector<std::string> leaves;
  AddLeaves({}, RunWith({"--help"}).out, leaves);
  ASSERT_GT(leaves.size(), 40u);
  for (const std::string& leaf : leaves) {
    std::vector<std::string> args = absl::StrSplit(leaf, ' ');
    args.push_back("--help");
    EXPECT_THAT(RunWith(args).out,
                HasSubstr(absl::StrCat("Examples:\n  tdpctl ", leaf)))
        << leaf;
  }
}

TEST_F(CommandDocTest, EachExampleIsACommandLineThatIsUnderstood) {
  for (const Example& example : AllExamples()) {
    std::vector<std::string> args =
        absl::StrSplit(absl::StrCat(example.command, " ", example.arguments),
                       ' ', absl::SkipEmpty());
    // A target that is refused once the rest has been parsed.
    args.push_back("--target=unix:");
    const Outcome outcome = RunWith(args);
    EXPECT_EQ(outcome.exit_code, kExitUsage) << example.command;
    EXPECT_THAT(outcome.err, HasSubstr("unix: needs a path"))
        << example.command << " " << example.arguments;
  }
}

TEST_F(CommandDocTest, CompletesCommandsOptionsAndWords) {
  EXPECT_THAT(Completions({"wri"}), ElementsAre("write-protect"));
  EXPECT_THAT(Completions({"vm", "st"}), UnorderedElementsAre("start", "stop"));
  EXPECT_THAT(Completions({"map", "demo", "0..1M", "--m"}),
              ElementsAre("--max-level="));
  EXPECT_THAT(Completions({"map", "--max-level="}),
              ElementsAre("--max-level=4K", "--max-level=2M"));
  EXPECT_THAT(Completions({"map", "--max-level", ""}), ElementsAre("4K", "2M"));
  // As bash splits them.
  EXPECT_THAT(Completions({"map", "--max-level", "="}),
              ElementsAre("4K", "2M"));
  EXPECT_THAT(Completions({"map", "--max-level", "=", "2"}), ElementsAre("2M"));
  EXPECT_THAT(Completions({"map", "gfn", ":", "0..10", "--m"}),
              ElementsAre("--max-level="));
  EXPECT_THAT(Completions({"map", "--target", "=", "unix", ":", "/a", "--m"}),
              ElementsAre("--max-level="));
  EXPECT_THAT(Completions({"--js"}), ElementsAre("--json"));
  EXPECT_THAT(Completions({"nonsense", "--zzz"}), IsEmpty());
  EXPECT_THAT(Completions({""}), Contains("vm"));
}

TEST_F(CommandDocTest, CompletesTheNamesThatTheDaemonHas) {
  server_.list_vms.Do([](const v1::ListVmsRequest&, v1::ListVmsResponse& out) {
    out.add_vms()->set_name("vms/demo");
    out.add_vms()->set_name("vms/other");
    return absl::OkStatus();
  });
  server_.list_memslots.Do([](const v1::ListMemslotsRequest& request,
                              v1::ListMemslotsResponse& out) {
    out.add_memslots()->set_name(request.parent() + "/memslots/ram");
    return absl::OkStatus();
  });
  EXPECT_THAT(Completions({"map", ""}), ElementsAre("demo", "other"));
  EXPECT_THAT(Completions({"vm", "get", "d"}), ElementsAre("demo"));
  EXPECT_THAT(Completions({"slot", "get", "demo", ""}), ElementsAre("ram"));
  EXPECT_EQ(server_.list_memslots.requests().back().parent(), "vms/demo");
}

TEST_F(CommandDocTest, FindsTheTargetInTheWordsThatBashSplit) {
  server_.list_vms.Do([](const v1::ListVmsRequest&, v1::ListVmsResponse& out) {
    out.add_vms()->set_name("vms/demo");
    return absl::OkStatus();
  });
  const std::string path = server_.target().substr(std::string("unix:").size());
  EXPECT_EQ(
      RunWith({"__complete", "--target", "=", "unix", ":", path, "map", ""})
          .out,
      "demo\n");
  EXPECT_EQ(
      RunWith({"__complete", "--target", "unix", ":", path, "map", "d"}).out,
      "demo\n");
}

TEST_F(CommandDocTest, TheFlagsOfTheConnectionCountWhenTheDaemonIsAsked) {
  server_.list_vms.Do([](const v1::ListVmsRequest&, v1::ListVmsResponse& out) {
    out.add_vms()->set_name("vms/demo");
    return absl::OkStatus();
  });
  // They do not go with a Unix socket, so that none is asked.
  for (const char* flag : {"--insecure", "--tls-ca=/a", "--tls-cert=/a",
                           "--tls-key=/a", "--tls-name=a"}) {
    const bool insecure = flag == std::string("--insecure");
    std::vector<std::string> words = {flag, "map", ""};
    if (insecure) words.insert(words.begin(), "--tls-name=a");
    EXPECT_THAT(Completions(words), IsEmpty()) << flag;
  }
  EXPECT_THAT(Completions({"--tls-ca", "/a", "map", ""}), IsEmpty());
  EXPECT_TRUE(server_.list_vms.requests().empty());
}

TEST_F(CommandDocTest, ADaemonThatDoesNotAnswerCompletesNothing) {
  const Outcome outcome =
      RunWith({"__complete", "--target=unix:/nonexistent/s", "map", ""});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(CommandDocTest, EachShellHasAScriptThatAsksTdpctl) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_THAT(Run({"completion", shell}), HasSubstr("tdpctl __complete"));
  }
  EXPECT_EQ(RunAny({"completion", "tcsh"}).exit_code, kExitUsage);
}

TEST_F(CommandDocTest, TheManualPageHasEveryCommand) {
  const std::string page = Run({"man"});
  EXPECT_THAT(page, HasSubstr(".TH TDPCTL 1"));
  EXPECT_THAT(page, HasSubstr(".SS tdpctl vm create VM"));
  EXPECT_THAT(page, HasSubstr(".SS tdpctl zap\\-all VM"));
  EXPECT_THAT(page, HasSubstr("\\fB\\-\\-max\\-level\\fR"));
  EXPECT_THAT(page, HasSubstr("(default: 30s)"));
  // Nothing hidden, and no line that roff would take for a request.
  EXPECT_THAT(page, Not(HasSubstr("__complete")));
}

TEST_F(CommandDocTest, HealthIsAnExitCode) {
  EXPECT_EQ(Run({"health"}), "serving\n");
  EXPECT_EQ(Run({"health", "--json"}), "{\"serving\":true}\n");
  server_.SetServing(false);
  const Outcome outcome = RunAny({"health"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_THAT(outcome.err, HasSubstr("does not serve"));
  EXPECT_EQ(RunWith({"health", "--target=unix:/nonexistent/s"}).exit_code,
            kExitError);
}

TEST_F(CommandDocTest, DoctorLooksAtTheHostAndAtTheDaemon) {
  server_.get_info.Do([](const v1::GetInfoRequest&, v1::GetInfoResponse& out) {
    out.set_version("9.8.7");
    v1::Capability* missing = out.add_capabilities();
    missing->set_name("hugetlb");
    missing->set_hint("reserve some");
    return absl::OkStatus();
  });
  const Outcome outcome = RunAny({"doctor"});
  EXPECT_THAT(outcome.out, HasSubstr("kernel: "));
  EXPECT_THAT(outcome.out, HasSubstr("tdpd 9.8.7 answers"));
  EXPECT_THAT(outcome.out, HasSubstr("daemon, hugetlb"));
  EXPECT_THAT(outcome.out, HasSubstr("    reserve some"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\033")));
  EXPECT_THAT(RunAny({"doctor", "--json"}).out,
              HasSubstr("\"check\":\"kernel\""));
}

TEST_F(CommandDocTest, DoctorMendsADaemonByWhatIsWrongWithIt) {
  for (const auto& [code, mend] : std::map<absl::StatusCode, std::string>{
           {absl::StatusCode::kUnavailable, "systemctl start tdpd"},
           {absl::StatusCode::kPermissionDenied, "/etc/tdpd/policy"},
           {absl::StatusCode::kUnauthenticated, "/etc/tdpd/policy"},
           {absl::StatusCode::kDeadlineExceeded, "journalctl -u tdpd"}}) {
    server_.get_info.Fail(absl::Status(code, "because"));
    EXPECT_THAT(RunAny({"doctor"}).out, HasSubstr(mend)) << code;
  }
}

}  // namespace
}  // namespace tdp::client
