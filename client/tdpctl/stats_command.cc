// tdpctl stats.

#include <cstdint>
#include <limits>
#include <ostream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/lib/address.h"
#include "client/lib/call_error.h"
#include "client/lib/duration.h"
#include "client/lib/live_block.h"
#include "client/lib/log2_histogram.h"
#include "client/lib/table.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

using google::protobuf::FieldDescriptor;

constexpr int kMedian = 50;
constexpr int kTail = 99;
constexpr int kMaximum = 100;

struct StatsArgs {
  std::string vm;
  bool watch = false;
  absl::Duration interval = absl::Seconds(1);
  int64_t count = std::numeric_limits<int64_t>::max();
};

// Every number of the message by its field's name, so that a statistic added to
// the API needs nothing here.
void PrintNumbers(const v1::VmStats& stats, std::ostream& out) {
  Table table({{"STATISTIC"}, {"VALUE", Align::kRight}});
  const google::protobuf::Descriptor& type = *stats.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    if (field->is_repeated() ||
        field->cpp_type() != FieldDescriptor::CPPTYPE_INT64) {
      continue;
    }
    const int64_t value = stats.GetReflection()->GetInt64(stats, field);
    const bool is_size = absl::EndsWith(field->name(), "_bytes");
    table.AddRow({field->name(), is_size
                                     ? FormatSize(static_cast<uint64_t>(value))
                                     : absl::StrCat(value)});
  }
  table.Flush(out);
}

void PrintFaults(const v1::VmStats& stats, std::ostream& out) {
  if (stats.fault_outcomes().empty()) return;
  out << "\n";
  Table table({{"FAULTS"},
               {"COUNT", Align::kRight},
               {"P50 <=", Align::kRight},
               {"P99 <=", Align::kRight},
               {"MAX <=", Align::kRight}});
  for (const v1::FaultOutcome& outcome : stats.fault_outcomes()) {
    const absl::Span<const int64_t> counts(
        outcome.latency_us_log2_counts().data(),
        outcome.latency_us_log2_counts_size());
    table.AddRow({outcome.outcome(), absl::StrCat(outcome.fault_count()),
                  QuantileText(counts, kMedian), QuantileText(counts, kTail),
                  QuantileText(counts, kMaximum)});
  }
  table.Flush(out);
}

void Print(const v1::VmStats& stats, std::ostream& out) {
  PrintNumbers(stats, out);
  PrintFaults(stats, out);
}

absl::Status Watch(Session& session, const StatsArgs& args) {
  v1::WatchVmStatsRequest request;
  request.set_vm(args.vm);
  *request.mutable_interval() =
      google::protobuf::util::TimeUtil::NanosecondsToDuration(
          absl::ToInt64Nanoseconds(args.interval));
  LiveBlock block(session.out_terminal(), session.out());
  int64_t left = args.count;
  return session.client().WatchVmStats(
      request, [&](const v1::WatchVmStatsResponse& response) {
        if (session.json()) {
          session.PrintJson(response);
        } else {
          std::ostringstream text;
          Print(response.stats(), text);
          block.Show(text.str());
        }
        // Nobody is watching any more if the output is closed.
        return --left > 0 && session.out().good();
      });
}

// Of a fleet, the daemons that have the VM answer.
absl::Status RunStats(Session& session, const StatsArgs& args) {
  if (args.watch) {
    if (!session.is_fleet()) return Watch(session, args);
    session.UsageError(absl::StrCat("--watch works on one daemon; --target ",
                                    "names ", session.daemons().size()));
    return absl::OkStatus();
  }
  v1::GetVmStatsRequest request;
  request.set_vm(args.vm);
  absl::Status not_found;
  bool other_answer = false;
  for (const Session::Daemon& daemon : session.daemons()) {
    const auto response = daemon.client->GetVmStats(request);
    if (absl::IsNotFound(response.status())) {
      not_found = response.status();
      continue;
    }
    if (!response.ok() && !session.is_fleet()) return response.status();
    other_answer = true;
    if (!response.ok()) {
      session.Fail(
          absl::StrCat(daemon.address, ": ", ErrorText(response.status())));
    } else if (session.json()) {
      session.PrintJson(daemon, *response);
    } else {
      if (session.is_fleet()) session.out() << daemon.address << "\n";
      Print(response->stats(), session.out());
    }
  }
  return other_answer ? absl::OkStatus() : not_found;
}

}  // namespace

void AddStatsCommand(CommandSet& commands) {
  auto command =
      commands.Add(commands.root(), "stats", "Counters and gauges of a VM",
                   RunStats, Reach::kFleet);
  StatsArgs* args = command.args.get();
  command.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  command.parameters.AddFlag(
      {.name = "--watch",
       .description =
           "Look again and again, at one daemon; on a terminal they are "
           "redrawn"},
      [=] { args->watch = true; });
  command.parameters.Add(
      {.name = "--interval",
       .description = "Time between two looks, e.g. 10, 500ms",
       .shown_default = "1s",
       .needs = "--watch"},
      ParsePositiveDuration,
      [=](absl::Duration interval) { args->interval = interval; });
  command.parameters.Add(
      {.name = "--count",
       .description = "End after so many looks; never unless given",
       .needs = "--watch"},
      ParseCount, [=](int64_t count) { args->count = count; });
}

}  // namespace tdp::client
