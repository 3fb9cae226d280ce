// tdpctl stats.

#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/log2_histogram.h"
#include "client/lib/table.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

using google::protobuf::FieldDescriptor;

constexpr int kMedian = 50;
constexpr int kTail = 99;
constexpr int kMaximum = 100;

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

absl::Status RunStats(Session& session, const v1::GetVmStatsRequest& request) {
  const auto response = session.client().GetVmStats(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  PrintNumbers(response->stats(), session.out());
  PrintFaults(response->stats(), session.out());
  return absl::OkStatus();
}

}  // namespace

void AddStatsCommand(CommandSet& commands) {
  auto command = commands.Add(commands.root(), "stats",
                              "Counters and gauges of a VM", RunStats);
  v1::GetVmStatsRequest* request = command.args.get();
  command.parameters.AddVm([=](const std::string& vm) { request->set_vm(vm); });
}

}  // namespace tdp::client
