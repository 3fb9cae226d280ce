#include "client/tdpbench/load.h"

#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/lib/channel.h"
#include "client/tdpbench/daemon_cpu.h"
#include "client/tdpbench/schedule.h"

namespace tdp::client {
namespace {

// The queue wakes up that much too late at worst. The rest is polled away, or
// calls would start late.
constexpr absl::Duration kQueueGrain = absl::Milliseconds(2);

absl::Duration OwnCpu() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) +
         absl::DurationFromTimeval(usage.ru_stime);
}

class Load {
 public:
  Load(const LoadOptions& options, std::vector<RemoteCaller> callers)
      : options_(options),
        callers_(std::move(callers)),
        random_(options.seed),
        daemon_cpu_(options.target),
        slots_(static_cast<size_t>(options.in_flight)) {
    for (Slot& slot : slots_) free_.push_back(&slot);
  }

  LoadReport Run() {
    const absl::Time start = absl::Now();
    const absl::Time begin = start + options_.warm_up;
    // Two schedules: what was late in the warm-up is not caught up with after.
    Schedule warm_up(start, begin, options_.rate);
    RunSchedule(warm_up, begin, /*measured=*/false);

    const absl::Time measured_from = absl::Now();
    const absl::Time end = measured_from + options_.duration;
    const absl::Duration client_cpu = OwnCpu();
    const std::optional<absl::Duration> daemon_cpu = daemon_cpu_.Now();
    Schedule schedule(measured_from, end, options_.rate);
    RunSchedule(schedule, end, /*measured=*/true);
    report_.missed_count = schedule.MissedCount();
    while (free_.size() < slots_.size()) {
      TakeEvent(absl::InfiniteFuture());
    }
    report_.elapsed = absl::Now() - measured_from;
    report_.client_cpu = OwnCpu() - client_cpu;
    const std::optional<absl::Duration> daemon_cpu_now = daemon_cpu_.Now();
    if (daemon_cpu.has_value() && daemon_cpu_now.has_value()) {
      report_.daemon_cpu = *daemon_cpu_now - *daemon_cpu;
    }
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
    return std::move(report_);
  }

 private:
  struct Slot {
    std::unique_ptr<RemoteCall> call;
    Operation operation = Operation::kWalkGfn;
    absl::Time intended;
    absl::Time actual;
    bool measured = false;
  };

  void RunSchedule(Schedule& schedule, absl::Time end, bool measured) {
    while (true) {
      const absl::Time now = absl::Now();
      while (!free_.empty()) {
        const auto due = schedule.TakeDue(now);
        if (!due.has_value()) break;
        Start(*due, measured);
      }
      if (now >= end) return;
      TakeEvent(free_.empty() ? end : schedule.NextTime(now));
    }
  }

  void Start(absl::Time intended, bool measured) {
    Slot& slot = *free_.back();
    free_.pop_back();
    RemoteCaller& caller = callers_[next_caller_++ % callers_.size()];
    slot.operation = options_.mix.Pick(random_());
    slot.intended = intended;
    slot.measured = measured;
    slot.actual = absl::Now();
    slot.call = caller.Start(slot.operation, random_(), queue_, &slot);
  }

  void TakeEvent(absl::Time limit) {
    void* tag = nullptr;
    bool ok = false;
    if (limit == absl::InfiniteFuture()) {
      queue_.Next(&tag, &ok);
    } else if (queue_.AsyncNext(&tag, &ok,
                                absl::ToChronoTime(limit - kQueueGrain)) !=
               grpc::CompletionQueue::GOT_EVENT) {
      return;
    }
    Slot& slot = *static_cast<Slot*>(tag);
    if (!slot.call->Advance(ok)) return;
    if (slot.measured) Note(slot);
    slot.call.reset();
    free_.push_back(&slot);
  }

  void Note(const Slot& slot) {
    const absl::Time now = absl::Now();
    const absl::Status status = slot.call->status();
    if (!status.ok()) {
      ++report_.errors[status.code()];
      if (report_.first_error.ok()) report_.first_error = status;
      return;
    }
    OperationReport& report = report_.operations[slot.operation];
    report.from_intended.Add(now - slot.intended);
    report.from_actual.Add(now - slot.actual);
  }

  const LoadOptions& options_;
  std::vector<RemoteCaller> callers_;
  size_t next_caller_ = 0;
  std::mt19937_64 random_;
  const DaemonCpu daemon_cpu_;
  grpc::CompletionQueue queue_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  LoadReport report_;
};

}  // namespace

absl::StatusOr<LoadReport> RunLoad(const LoadOptions& options) {
  std::vector<RemoteCaller> callers;
  for (int i = 0; i < options.connections; ++i) {
    const auto channel = MakeChannel(options.target);
    if (!channel.ok()) return channel.status();
    callers.emplace_back(*channel, options.requests);
  }
  return Load(options, std::move(callers)).Run();
}

}  // namespace tdp::client
