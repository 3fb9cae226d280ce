#include "client/tdpbench/load.h"

#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "client/lib/channel.h"
#include "client/tdpbench/daemon_cpu.h"
#include "client/tdpbench/schedule.h"

namespace tdp::client {
namespace {

// The queue wakes up that much too late at worst. The rest is polled away, or
// calls would start late.
constexpr std::chrono::milliseconds kQueueGrain(2);

SteadyTime Now() { return std::chrono::steady_clock::now(); }

// A deadline of gRPC's, by its clock that nobody sets either.
gpr_timespec DeadlineIn(SteadyTime::duration wait) {
  return gpr_time_add(
      gpr_now(GPR_CLOCK_MONOTONIC),
      gpr_time_from_nanos(std::chrono::nanoseconds(wait).count(),
                          GPR_TIMESPAN));
}

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
    const SteadyTime start = Now();
    const SteadyTime begin =
        start + absl::ToChronoNanoseconds(options_.warm_up);
    // Two schedules: what was late in the warm-up is not caught up with after.
    Schedule warm_up(start, begin, options_.rate);
    RunSchedule(warm_up, begin, /*measured=*/false);

    const SteadyTime measured_from = Now();
    end_ = measured_from + absl::ToChronoNanoseconds(options_.duration);
    const absl::Duration client_cpu = OwnCpu();
    const std::optional<absl::Duration> daemon_cpu = daemon_cpu_.Now();
    Schedule schedule(measured_from, end_, options_.rate);
    RunSchedule(schedule, end_, /*measured=*/true);
    report_.missed_count = schedule.MissedCount();
    while (free_.size() < slots_.size()) {
      TakeEvent(std::nullopt);
    }
    report_.elapsed = options_.duration;
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
    SteadyTime intended;
    SteadyTime actual;
    bool measured = false;
  };

  void RunSchedule(Schedule& schedule, SteadyTime end, bool measured) {
    while (true) {
      const SteadyTime now = Now();
      while (!free_.empty()) {
        const auto due = schedule.TakeDue(now);
        if (!due.has_value()) break;
        Start(*due, measured);
      }
      if (now >= end) return;
      TakeEvent(free_.empty() ? end : schedule.NextTime(now));
    }
  }

  void Start(SteadyTime intended, bool measured) {
    Slot& slot = *free_.back();
    free_.pop_back();
    RemoteCaller& caller = callers_[next_caller_++ % callers_.size()];
    slot.operation = options_.mix.Pick(random_());
    slot.intended = intended;
    slot.measured = measured;
    slot.actual = Now();
    slot.call = caller.Start(slot.operation, random_(), queue_, &slot);
  }

  // Waits until `limit`, or for as long as it takes.
  void TakeEvent(std::optional<SteadyTime> limit) {
    void* tag = nullptr;
    bool ok = false;
    if (!limit.has_value()) {
      queue_.Next(&tag, &ok);
    } else if (queue_.AsyncNext(&tag, &ok,
                                DeadlineIn(*limit - kQueueGrain - Now())) !=
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
    const SteadyTime now = Now();
    const absl::Status status = slot.call->status();
    if (!status.ok()) {
      ++report_.errors[status.code()];
      if (report_.first_error.ok()) report_.first_error = status;
      return;
    }
    OperationReport& report = report_.operations[slot.operation];
    report.from_intended.Add(absl::FromChrono(now - slot.intended));
    report.from_actual.Add(absl::FromChrono(now - slot.actual));
    if (now <= end_) ++report_.ok_in_time_count;
  }

  const LoadOptions& options_;
  std::vector<RemoteCaller> callers_;
  size_t next_caller_ = 0;
  std::mt19937_64 random_;
  const DaemonCpu daemon_cpu_;
  grpc::CompletionQueue queue_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  SteadyTime end_;
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
