#include "client/tdpbench/command_line.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/lib/call_error.h"
#include "client/lib/duration.h"
#include "client/tdpbench/load.h"
#include "client/tdpbench/thresholds.h"

namespace tdp::client {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitThreshold = 3;
constexpr int kMaxInFlight = 4096;

constexpr char kExamples[] =
    "Examples:\n"
    "  tdpbench demo\n"
    "      one walk after the other for 10 s\n"
    "  tdpbench demo --mix=walk_gfn=90,map=5,zap=5 --in_flight=8\n"
    "      eight calls under way at any time\n"
    "  tdpbench demo --rate=2000 --max_p99=2ms --max_error_rate=0.01\n"
    "      2,000 calls a second, whatever the daemon does; exit status 3\n"
    "      if more than 1 % of them fail or cannot be sent in time, or unless\n"
    "      99 % of the others are answered within 2 ms of when they should\n"
    "      have been sent\n"
    "\n"
    "Latencies count from when a call should have started, so that a daemon\n"
    "that stands still for a second cannot hide the calls of that second.\n"
    "Only calls that are answered without an error have one: --max_p50,\n"
    "--max_p99 and --max_p999 judge these alone. Calls that fail, and those "
    "of\n"
    "--rate that were never sent for want of room, are judged by\n"
    "--max_error_rate. The rate is what was answered within --duration.\n"
    "Exit status: 0; 1 if a call failed and no --max_error_rate is given; 2 "
    "for\n"
    "arguments that cannot be meant; 3 if a threshold is broken.\n";

struct Arguments {
  LoadOptions load;
  std::string vm;
  std::string mix = "walk_gfn";
  std::optional<int> in_flight;
  std::string duration = "10s";
  std::string warm_up = "1s";
  std::string timeout = "30s";
  std::string max_p50;
  std::string max_p99;
  std::string max_p999;
  Thresholds thresholds;
  bool json = false;
};

// As ParsePositiveDuration(), into `*result` unless `text` is empty.
absl::Status Parse(const char* flag, const std::string& text,
                   std::optional<absl::Duration>& result) {
  if (text.empty()) return absl::OkStatus();
  const auto duration = ParsePositiveDuration(text);
  if (!duration.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": ", duration.status().message()));
  }
  result = *duration;
  return absl::OkStatus();
}

// Turns what CLI11 took as text into what it means.
absl::Status Understand(Arguments& arguments) {
  auto mix = Mix::Parse(arguments.mix);
  if (!mix.ok()) return mix.status();
  LoadOptions& load = arguments.load;
  load.mix = *std::move(mix);
  load.requests.vm_name = absl::StrCat("vms/", arguments.vm);
  // An open loop needs room for the calls that are late.
  load.in_flight = arguments.in_flight.value_or(load.rate > 0 ? 256 : 1);
  std::optional<absl::Duration> duration;
  std::optional<absl::Duration> timeout;
  std::optional<absl::Duration> warm_up = absl::ZeroDuration();
  for (const auto& [flag, text, result] :
       {std::tuple{"--duration", &arguments.duration, &duration},
        std::tuple{"--timeout", &arguments.timeout, &timeout},
        std::tuple{"--max_p50", &arguments.max_p50,
                   &arguments.thresholds.max_p50},
        std::tuple{"--max_p99", &arguments.max_p99,
                   &arguments.thresholds.max_p99},
        std::tuple{"--max_p999", &arguments.max_p999,
                   &arguments.thresholds.max_p999}}) {
    const absl::Status status = Parse(flag, *text, *result);
    if (!status.ok()) return status;
  }
  if (arguments.warm_up != "0") {
    const absl::Status status = Parse("--warm_up", arguments.warm_up, warm_up);
    if (!status.ok()) return status;
  }
  load.duration = duration.value_or(absl::ZeroDuration());
  load.requests.timeout = timeout.value_or(absl::ZeroDuration());
  load.warm_up = *warm_up;
  return absl::OkStatus();
}

void AddOptions(CLI::App& app, Arguments& arguments) {
  LoadOptions& load = arguments.load;
  app.add_option("vm", arguments.vm, "The VM.")->required();
  app.add_option("--target", load.target.address,
                 "The daemon: unix:PATH or HOST:PORT.")
      ->envname("TDPD_TARGET")
      ->capture_default_str();
  app.add_flag("--insecure", load.target.insecure,
               "Without TLS; for loopback addresses.");
  app.add_option("--tls_ca,--tls-ca", load.target.tls_ca,
                 "PEM file of the authority of the daemon's certificate.");
  app.add_option("--tls_cert,--tls-cert", load.target.tls_cert,
                 "PEM file of the client's certificate.");
  app.add_option("--tls_key,--tls-key", load.target.tls_key,
                 "PEM file of its key.");
  app.add_option("--tls_name,--tls-name", load.target.tls_name,
                 "Name that the daemon's certificate must have.");

  app.add_option(
         "--mix", arguments.mix,
         "Operations and their weights. They are " + OperationNames() + ".")
      ->capture_default_str();
  app.add_option("--frames", load.requests.frame_count,
                 "Touch random frames below this one.")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 52))
      ->capture_default_str();
  app.add_option("--batch", load.requests.batch,
                 "Frames of walk_frames, walk_range and age, walks in a "
                 "message of stream_ops.")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();

  app.add_option("--rate", load.rate,
                 "Open loop: start this many calls a second. Keeps a CPU "
                 "busy, so that they start in time.")
      ->check(CLI::PositiveNumber);
  app.add_option("--in_flight,--in-flight", arguments.in_flight,
                 "Calls under way at most, 1 or, with --rate, 256 if not "
                 "given. Without --rate: that many at any time.")
      ->check(CLI::Range(1, kMaxInFlight));
  app.add_option("--connections", load.connections,
                 "Calls take turns on these.")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--duration,--seconds", arguments.duration,
                 "How long to measure: 10 (seconds), 500ms, 2m.")
      ->capture_default_str();
  app.add_option("--warm_up,--warm-up", arguments.warm_up,
                 "Load before that, which counts for nothing.")
      ->capture_default_str();
  app.add_option("--timeout", arguments.timeout, "Of each call.")
      ->capture_default_str();
  app.add_option("--seed", load.seed, "Of operations and frames.")
      ->capture_default_str();

  app.add_option("--max_p50,--max-p50", arguments.max_p50,
                 "Threshold of answered calls, such as 500us.");
  app.add_option("--max_p99,--max-p99", arguments.max_p99,
                 "Threshold of answered calls, such as 2ms.");
  app.add_option("--max_p999,--max-p999", arguments.max_p999,
                 "Threshold of answered calls, 99.9th percentile.");
  app.add_option("--max_error_rate,--max-error-rate",
                 arguments.thresholds.max_error_rate,
                 "Threshold, 0 to 1: calls that failed or were never sent.")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--min_rate,--min-rate", arguments.thresholds.min_rate,
                 "Threshold: calls answered without an error a second.")
      ->check(CLI::PositiveNumber);
  app.add_flag("--json", arguments.json, "Write one JSON object.");
}

}  // namespace

int RunTdpbench(std::vector<std::string> arguments_text, std::ostream& out,
                std::ostream& err) {
  Arguments arguments;
  CLI::App app{"Puts load on a running daemon and measures its answers.",
               "tdpbench"};
  app.footer(kExamples);
  AddOptions(app, arguments);
  // CLI11 takes them from the back.
  std::reverse(arguments_text.begin(), arguments_text.end());
  try {
    app.parse(arguments_text);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? 0 : kExitUsage;
  }
  const absl::Status understood = Understand(arguments);
  if (!understood.ok()) {
    err << "tdpbench: " << understood.message() << "\n";
    return kExitUsage;
  }
  const auto report = RunLoad(arguments.load);
  if (!report.ok()) {
    err << "tdpbench: " << report.status().message() << "\n";
    return kExitUsage;
  }
  if (arguments.json) {
    out << ToJson(*report);
  } else {
    PrintText(*report, out);
  }
  if (!report->first_error.ok()) {
    err << "tdpbench: the first error: " << ErrorText(report->first_error)
        << "\n";
  }
  const std::vector<std::string> broken = Broken(arguments.thresholds, *report);
  for (const std::string& sentence : broken) {
    err << "tdpbench: " << sentence << "\n";
  }
  if (!broken.empty()) return kExitThreshold;
  const bool errors_allowed = arguments.thresholds.max_error_rate.has_value();
  return report->error_count() > 0 && !errors_allowed ? kExitError : 0;
}

}  // namespace tdp::client
