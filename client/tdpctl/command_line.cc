#include "client/tdpctl/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/duration.h"
#include "client/lib/fleet.h"
#include "client/lib/names.h"
#include "client/lib/target.h"
#include "client/tdpctl/command_set.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/completion.h"
#include "client/tdpctl/parameters.h"

namespace tdp::client {
namespace {

// What the shells' scripts say before the words to complete.
constexpr char kCompleteWord[] = "__complete";

struct GlobalOptions {
  Target target;
  std::optional<absl::Duration> timeout;
  int retry_count = RetryOptions().max_tries - 1;
  bool json = false;
  bool progress = true;
};

constexpr int kMaxRetries = 1'000'000;

absl::StatusOr<int> ParseRetries(absl::string_view text) {
  const absl::StatusOr<int> count = ParseInteger<int>(text);
  if (count.ok() && (*count < 0 || *count > kMaxRetries)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not in 0..", kMaxRetries));
  }
  return count;
}

void AddGlobalOptions(CLI::App& app, GlobalOptions& options) {
  Target& target = options.target;
  app.add_option(
         "--target", target.address,
         "Where the daemon listens: unix:PATH or HOST:PORT; several with "
         "commas, or dns:///HOST:PORT, for vm list, top and stats")
      ->envname("TDPD_TARGET")
      ->default_str(kDefaultTarget);
  app.add_flag("--json", options.json,
               "Print responses, and errors, as JSON: one object per line");
  app.add_flag_callback(
      "--no-progress", [&options] { options.progress = false; },
      "No progress bars; there are none if stderr is no terminal");
  Parameters(&app).Add(
      {.name = "--timeout",
       .description = "Deadline of each call; none for streams unless given",
       .shown_default = "30s"},
      ParsePositiveDuration,
      [&options](absl::Duration timeout) { options.timeout = timeout; });
  Parameters(&app).Add(
      {.name = "--retries",
       .description = "How often a call that was refused for a while, or lost, "
                      "is made again, where that does no harm",
       .shown_default = absl::StrCat(options.retry_count)},
      ParseRetries, [&options](int count) { options.retry_count = count; });
  app.add_flag("--insecure", target.insecure,
               "No TLS to HOST:PORT; loopback addresses only");
  app.add_option("--tls-ca", target.tls_ca,
                 "Authorities that the daemon's certificate is checked with");
  app.add_option("--tls-cert", target.tls_cert, "Own certificate");
  app.add_option("--tls-key", target.tls_key, "Key of the own certificate");
  app.add_option("--tls-name", target.tls_name,
                 "Name in the daemon's certificate, if not HOST");
}

int UsageError(absl::string_view message, std::ostream& err) {
  err << "tdpctl: " << message << "\nRun with --help for more information.\n";
  return kExitUsage;
}

// CLI11 says of "foo" only that a subcommand is required.
std::string Describe(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  const bool command_missing =
      error.get_exit_code() ==
          static_cast<int>(CLI::ExitCodes::RequiredError) &&
      std::string(error.what()) == "A subcommand is required";
  if (!command_missing) return error.what();
  if (rest.empty()) return "a command is missing";
  return absl::StrCat("\"", rest.front(), "\" is no command");
}

// What a completion may still wait for a daemon.
constexpr absl::Duration kCompletionTimeout = absl::Milliseconds(500);

// Lists what the daemon has, for completion. Nothing if it cannot be asked.
std::vector<std::string> ListNames(const Target& target,
                                   const std::string& argument,
                                   const std::vector<std::string>& before) {
  const auto client = Client::Create(
      target, {.timeout = kCompletionTimeout, .retry = {.max_tries = 1}});
  if (!client.ok()) return {};
  std::vector<std::string> names;
  if (argument == "VM" || argument == "WHERE") {
    const auto vms = (*client)->ListVms();
    if (!vms.ok()) return {};
    for (const v1::Vm& vm : vms->vms()) names.push_back(LastSegment(vm.name()));
  } else if (argument == "SLOT" && !before.empty()) {
    const auto slots = (*client)->ListMemslots(VmName(before.front()));
    if (!slots.ok()) return {};
    for (const v1::Memslot& slot : slots->memslots()) {
      names.push_back(LastSegment(slot.name()));
    }
  }
  return names;
}

// The target that a command line to complete names.
Target TargetOf(const std::vector<std::string>& split_words) {
  Target target;
  if (const char* environment = getenv("TDPD_TARGET")) {
    target.address = environment;
  }
  const std::pair<absl::string_view, std::string*> flags[] = {
      {"--target", &target.address},
      {"--tls-ca", &target.tls_ca},
      {"--tls-cert", &target.tls_cert},
      {"--tls-key", &target.tls_key},
      {"--tls-name", &target.tls_name}};
  const std::vector<std::string> words = JoinedWords(split_words);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--insecure") target.insecure = true;
    for (const auto& [flag, value] : flags) {
      absl::string_view word = words[i];
      if (!absl::ConsumePrefix(&word, flag)) continue;
      if (absl::ConsumePrefix(&word, "=")) {
        *value = std::string(word);
      } else if (word.empty() && i + 1 < words.size()) {
        *value = words[i + 1];
      }
    }
  }
  return target;
}

int PrintCompletions(const CommandSet& commands,
                     const std::vector<std::string>& words, Io io) {
  const Target target = TargetOf(words);
  for (const std::string& candidate :
       Complete(commands.Describe(), words,
                [&](const std::string& argument,
                    const std::vector<std::string>& before) {
                  return ListNames(target, argument, before);
                })) {
    io.out << candidate << "\n";
  }
  return kExitOk;
}

int RunAction(const CommandSet& commands, const GlobalOptions& options, Io io) {
  const auto targets = ExpandTarget(options.target);
  if (!targets.ok()) return UsageError(targets.status().message(), io.err);
  if (targets->size() > 1 && commands.selected_reach() == Reach::kOneDaemon) {
    return UsageError(
        absl::StrCat("this command works on one daemon; --target names ",
                     targets->size()),
        io.err);
  }
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<Session::Daemon> daemons;
  for (const Target& target : *targets) {
    auto client = Client::Create(
        target, {.timeout = options.timeout,
                 .retry = {.max_tries = 1 + options.retry_count}});
    if (!client.ok()) return UsageError(client.status().message(), io.err);
    clients.push_back(*std::move(client));
    daemons.push_back({target.address, clients.back().get()});
  }
  const OutputForm form = options.json ? OutputForm::kJson : OutputForm::kText;
  if (!options.progress) io.err_terminal = {};  // only bars look at it
  Session session(std::move(daemons), form, io);
  const absl::Status status = commands.selected()(session);
  io.out.flush();
  if (status.ok()) {
    if (io.out.good()) return session.exit_code();
    io.err << "tdpctl: the output could not be written\n";
    return kExitError;
  }
  if (options.json) {
    io.err << ErrorJson(status) << "\n";
  } else {
    io.err << "tdpctl: " << ErrorText(status) << "\n";
  }
  return kExitError;
}

}  // namespace

int RunTdpctl(std::vector<std::string> args, Io io) {
  CLI::App app("Looks at and controls the virtual machines of tdpd.", "tdpctl");
  app.fallthrough();
  app.require_subcommand(1);
  app.footer(kUsageNotes);
  GlobalOptions options;
  AddGlobalOptions(app, options);
  CommandSet commands(app);
  AddInfoCommand(commands);
  AddVmCommands(commands);
  AddSlotCommands(commands);
  AddVcpuCommands(commands);
  AddGuestCommands(commands);
  AddMapCommands(commands);
  AddProtectCommands(commands);
  AddHugePageCommands(commands);
  AddAgeCommand(commands);
  AddBatchCommand(commands);
  AddDirtyCommands(commands);
  AddDiscardCommand(commands);
  AddWalkCommand(commands);
  AddHeatmapCommand(commands);
  AddAuditCommand(commands);
  AddStatsCommand(commands);
  AddEventsCommand(commands);
  AddWaitingCommands(commands);
  AddMemoryCommands(commands);
  AddWorkingSetCommands(commands);
  AddTopCommand(commands);
  AddHealthCommand(commands);
  AddDoctorCommand(commands);
  AddWebCommand(commands);
  AddShellCommands(commands);
  if (!args.empty() && args.front() == kCompleteWord) {
    args.erase(args.begin());
    return PrintCompletions(commands, args, io);
  }
  commands.ShowExamples();
  try {
    std::reverse(args.begin(), args.end());  // as CLI11 wants them
    app.parse(std::move(args));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      app.exit(error, io.out, io.err);
      return kExitOk;
    }
    return UsageError(Describe(app, error), io.err);
  }
  return RunAction(commands, options, io);
}

}  // namespace tdp::client
