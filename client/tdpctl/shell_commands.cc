// tdpctl completion and man: what a shell and a manual need.

#include <string>

#include "absl/strings/str_cat.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/completion.h"
#include "client/tdpctl/man_page.h"

namespace tdp::client {
namespace {

struct CompletionArgs {
  std::string script;
};

struct ManArgs {
  const CommandSet* commands = nullptr;
};

absl::Status RunCompletion(Session& session, const CompletionArgs& args) {
  session.out() << args.script;
  return absl::OkStatus();
}

absl::Status RunMan(Session& session, const ManArgs& args) {
  session.out() << ManPage(args.commands->Describe(), kUsageNotes);
  return absl::OkStatus();
}

}  // namespace

void AddShellCommands(CommandSet& commands) {
  auto completion =
      commands.Add(commands.root(), "completion",
                   "Print the script that lets a shell complete command lines",
                   RunCompletion);
  completion.parameters.AddChoice<const char*>(
      {.name = "SHELL",
       .description = "bash, zsh or fish",
       .presence = Presence::kRequired},
      {{"bash", "bash"}, {"zsh", "zsh"}, {"fish", "fish"}},
      [args = completion.args.get()](const char* shell) {
        args->script = CompletionScript(shell);
      });
  commands.Add(commands.root(), "man", "Print the manual page, as roff", RunMan)
      .args->commands = &commands;
}

}  // namespace tdp::client
