#include "client/tdpctl/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/duration.h"
#include "client/lib/target.h"
#include "client/tdpctl/command_set.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/parameters.h"

namespace tdp::client {
namespace {

constexpr char kFooter[] =
    "Addresses and sizes: 4096, 0x1000, 4K, 256M, 1G, 1T.\n"
    "Ranges: START..END (END not included) or START+SIZE, 4K aligned;\n"
    "gfn:START..END counts in frames.\n"
    "Exit codes: 0, 1 for an error from the daemon, 2 for usage.";

struct GlobalOptions {
  Target target;
  std::optional<absl::Duration> timeout;
  bool json = false;
  bool progress = true;
};

void AddGlobalOptions(CLI::App& app, GlobalOptions& options) {
  Target& target = options.target;
  app.add_option("--target", target.address,
                 "Where the daemon listens: unix:PATH or HOST:PORT")
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

int RunAction(const Action& action, const GlobalOptions& options, Io io) {
  const auto client = Client::Create(options.target, options.timeout);
  if (!client.ok()) return UsageError(client.status().message(), io.err);
  const OutputForm form = options.json ? OutputForm::kJson : OutputForm::kText;
  if (!options.progress) io.err_terminal = {};  // only bars look at it
  Session session(**client, form, io);
  const absl::Status status = action(session);
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
  app.footer(kFooter);
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
  return RunAction(commands.selected(), options, io);
}

}  // namespace tdp::client
