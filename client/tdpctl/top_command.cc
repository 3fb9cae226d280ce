// tdpctl top.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
// What a daemon gets at least to answer a call.
constexpr absl::Duration kLeastTimeout = absl::Seconds(1);

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
      : session_(session), fleet_(session.is_fleet()) {}

  // Appends the table of one moment to `text`. All daemons are asked at once:
  // one that stands still holds up none of the others.
  void Look(std::string& text) {
    const std::vector<Session::Daemon>& daemons = session_.daemons();
    std::vector<Answer> answers(daemons.size());
    std::vector<std::thread> threads;
    for (size_t i = 1; i < daemons.size(); ++i) {
      threads.emplace_back([&, i] { answers[i] = Ask(*daemons[i].client); });
    }
    answers[0] = Ask(*daemons[0].client);
    for (std::thread& thread : threads) thread.join();

    Table table = TopTable(fleet_);
    std::string errors;
    Samples samples;
    for (size_t i = 0; i < daemons.size(); ++i) {
      const Answer& answer = answers[i];
      for (const VmLook& look : answer.vms) {
        AddVm(daemons[i].address, look, samples, table);
      }
      if (!answer.status.ok()) {
        absl::StrAppend(&errors, daemons[i].address, ": ",
                        ErrorText(answer.status), "\n");
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
  struct VmLook {
    v1::Vm vm;
    v1::VmStats stats;
  };
  // Of one daemon. VMs that were seen before an error are there.
  struct Answer {
    absl::Status status;
    std::vector<VmLook> vms;
  };

  static Answer Ask(Client& client) {
    Answer answer;
    const auto vms = client.ListVms();
    answer.status = vms.status();
    if (!vms.ok()) return answer;
    for (const v1::Vm& vm : vms->vms()) {
      v1::GetVmStatsRequest request;
      request.set_vm(vm.name());
      const auto response = client.GetVmStats(request);
      if (absl::IsNotFound(response.status())) continue;  // just deleted
      answer.status = response.status();
      if (!response.ok()) return answer;
      answer.vms.push_back({vm, response->stats()});
    }
    return answer;
  }

  void AddVm(const std::string& daemon, const VmLook& look, Samples& samples,
             Table& table) {
    const auto& [vm, stats] = look;
    const std::pair key(daemon, vm.name());
    const Sample& sample = samples[key] = SampleOf(stats);
    const auto before = samples_.find(key);
    std::vector<std::string> cells = {
        vm.name(),
        EnumText(v1::Vm::State_Name(vm.state()), "STATE_"),
        absl::StrCat(vm.vcpu_count()),
        FormatSize(MappedBytes(stats)),
        absl::StrCat(stats.leaf_4k_count()),
        absl::StrCat(stats.leaf_2m_count()),
        absl::StrCat(stats.leaf_1g_count()),
        FormatSize(static_cast<uint64_t>(stats.page_table_bytes())),
        before == samples_.end() ? "-" : RateText(before->second, sample),
        absl::StrCat(stats.waiting_access_count())};
    if (fleet_) cells.insert(cells.begin(), daemon);
    table.AddRow(std::move(cells));
  }

  Session& session_;
  const bool fleet_;
  Samples samples_;
  bool failed_ = false;
};

absl::Status RunTop(Session& session, const TopArgs& args) {
  for (const Session::Daemon& daemon : session.daemons()) {
    daemon.client->SetDefaultTimeout(std::max(args.interval, kLeastTimeout));
  }
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
