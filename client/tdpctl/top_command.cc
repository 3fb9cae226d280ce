// tdpctl top.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/lib/address.h"
#include "client/lib/call_error.h"
#include "client/lib/duration.h"
#include "client/lib/live_block.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

constexpr absl::Duration kDefaultInterval = absl::Seconds(2);

struct TopArgs {
  absl::Duration interval = kDefaultInterval;
  int64_t count = std::numeric_limits<int64_t>::max();
};

// What a VM had counted at some moment.
struct Sample {
  absl::Time time;
  int64_t fault_count = 0;
};

// By daemon and VM: rates need the sample before.
using Samples = std::map<std::pair<std::string, std::string>, Sample>;

int64_t FaultCount(const v1::VmStats& stats) {
  int64_t count = 0;
  for (const v1::FaultOutcome& outcome : stats.fault_outcomes()) {
    count += outcome.fault_count();
  }
  return count;
}

Sample SampleOf(const v1::VmStats& stats) {
  return {.time = absl::FromUnixNanos(
              google::protobuf::util::TimeUtil::TimestampToNanoseconds(
                  stats.sample_time())),
          .fault_count = FaultCount(stats)};
}

std::string RateText(const Sample& before, const Sample& now) {
  const double seconds = absl::ToDoubleSeconds(now.time - before.time);
  if (seconds <= 0) return "-";
  return absl::StrCat(static_cast<int64_t>(
      static_cast<double>(now.fault_count - before.fault_count) / seconds));
}

uint64_t MappedBytes(const v1::VmStats& stats) {
  constexpr uint64_t k4K = uint64_t{4} << 10;
  return static_cast<uint64_t>(stats.leaf_4k_count()) * k4K +
         static_cast<uint64_t>(stats.leaf_2m_count()) * (k4K << 9) +
         static_cast<uint64_t>(stats.leaf_1g_count()) * (k4K << 18);
}

Table TopTable(bool fleet) {
  std::vector<Column> columns = {{"VM"},
                                 {"STATE"},
                                 {"VCPUS", Align::kRight},
                                 {"MAPPED", Align::kRight},
                                 {"4K", Align::kRight},
                                 {"2M", Align::kRight},
                                 {"1G", Align::kRight},
                                 {"TABLES", Align::kRight},
                                 {"FAULTS/S", Align::kRight},
                                 {"WAITING", Align::kRight}};
  if (fleet) columns.insert(columns.begin(), {"DAEMON"});
  return Table(std::move(columns));
}

class Top {
 public:
  explicit Top(Session& session)
      : session_(session), fleet_(session.daemons().size() > 1) {}

  // Appends the table of one moment to `text`.
  void Look(std::string& text) {
    Table table = TopTable(fleet_);
    std::string errors;
    Samples samples;
    for (const Session::Daemon& daemon : session_.daemons()) {
      const absl::Status status = AddDaemon(daemon, table, samples);
      if (!status.ok()) {
        absl::StrAppend(&errors, daemon.address, ": ", ErrorText(status), "\n");
      }
    }
    samples_ = std::move(samples);
    failed_ = !errors.empty();
    std::ostringstream out;
    table.Flush(out);
    absl::StrAppend(&text, out.str(), errors);
  }

  // A daemon could not be asked, the last time.
  bool failed() const { return failed_; }

 private:
  absl::Status AddDaemon(const Session::Daemon& daemon, Table& table,
                         Samples& samples) {
    const auto vms = daemon.client->ListVms();
    if (!vms.ok()) return vms.status();
    for (const v1::Vm& vm : vms->vms()) {
      v1::GetVmStatsRequest request;
      request.set_vm(vm.name());
      const auto response = daemon.client->GetVmStats(request);
      if (absl::IsNotFound(response.status())) continue;  // just deleted
      if (!response.ok()) return response.status();
      const std::pair key(daemon.address, vm.name());
      samples[key] = SampleOf(response->stats());
      const auto before = samples_.find(key);
      AddRow(daemon, vm, response->stats(),
             before == samples_.end() ? "-"
                                      : RateText(before->second, samples[key]),
             table);
    }
    return absl::OkStatus();
  }

  void AddRow(const Session::Daemon& daemon, const v1::Vm& vm,
              const v1::VmStats& stats, const std::string& rate, Table& table) {
    std::vector<std::string> cells = {
        vm.name(),
        EnumText(v1::Vm::State_Name(vm.state()), "STATE_"),
        absl::StrCat(vm.vcpu_count()),
        FormatSize(MappedBytes(stats)),
        absl::StrCat(stats.leaf_4k_count()),
        absl::StrCat(stats.leaf_2m_count()),
        absl::StrCat(stats.leaf_1g_count()),
        FormatSize(static_cast<uint64_t>(stats.page_table_bytes())),
        rate,
        absl::StrCat(stats.waiting_access_count())};
    if (fleet_) cells.insert(cells.begin(), daemon.address);
    table.AddRow(std::move(cells));
  }

  Session& session_;
  const bool fleet_;
  Samples samples_;
  bool failed_ = false;
};

absl::Status RunTop(Session& session, const TopArgs& args) {
  Top top(session);
  LiveBlock block(session.out_terminal(), session.out());
  absl::Time next = absl::Now();
  // Nobody is watching any more if the output is closed.
  for (int64_t round = 0; round < args.count && session.out().good(); ++round) {
    absl::SleepFor(next - absl::Now());
    next = std::max(next + args.interval, absl::Now());
    std::string text;
    top.Look(text);
    block.Show(text);
  }
  if (top.failed()) session.Fail("not every daemon could be asked");
  return absl::OkStatus();
}

}  // namespace

void AddTopCommand(CommandSet& commands) {
  auto command = commands.Add(
      commands.root(), "top",
      "Show every VM: what is mapped, faults a second, accesses that wait",
      RunTop, Reach::kFleet);
  TopArgs* args = command.args.get();
  command.parameters.Add(
      {.name = "--interval",
       .description = "Time between two looks, e.g. 10, 500ms, 2m",
       .shown_default = "2s"},
      ParsePositiveDuration,
      [=](absl::Duration interval) { args->interval = interval; });
  command.parameters.Add(
      {.name = "--count",
       .description = "End after this many looks; never unless given"},
      ParseCount, [=](int64_t count) { args->count = count; });
}

}  // namespace tdp::client
