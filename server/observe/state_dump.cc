#include "server/observe/state_dump.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "server/base/log.h"
#include "server/base/version.h"
#include "server/observe/process_metrics.h"
#include "server/observe/vm_metrics.h"

namespace tdp::server {
namespace {

constexpr size_t kMaxCallsShown = 256;

absl::Status FileError(absl::string_view path, int error) {
  return InternalError(
      absl::StrCat("cannot write ", path, ": ", strerror(error)));
}

std::string DescribeVm(const VmInfo& info, const Vm& vm) {
  const VmStats stats = vm.Stats();
  std::string text = absl::StrCat(
      info.id, " ", NameOf(info.state), " vcpus=", info.config.vcpu_count,
      " leaves_4k=", stats.leaf_4k_count, " leaves_2m=", stats.leaf_2m_count,
      " leaves_1g=", stats.leaf_1g_count,
      " page_table_bytes=", stats.page_table_bytes, " of ",
      info.config.page_table_limit_bytes,
      " deferred_frees=", stats.deferred_free_count,
      " waiting_accesses=", stats.waiting_access_count,
      " host_calls=", stats.host_call_count, " yields=", stats.yield_count,
      "\n  faults:");
  for (const FaultOutcomeStats& outcome : stats.fault_outcomes) {
    absl::StrAppend(&text, " ", outcome.outcome, "=", outcome.fault_count);
  }
  for (const MemslotInfo& slot : vm.ListMemslots()) {
    absl::StrAppend(&text, "\n  memslot ", slot.id,
                    " base_gfn=", Hex(slot.config.base_gfn.value()),
                    " frames=", slot.config.frame_count,
                    slot.config.read_only ? " read_only" : "",
                    slot.config.dirty_log_enabled ? " dirty_log" : "");
  }
  text.push_back('\n');
  return text;
}

}  // namespace

std::string DescribeSections(absl::Span<const StateSection> sections) {
  std::string text;
  for (const StateSection& section : sections) {
    absl::StrAppend(&text, section.title, ":\n");
    const std::string lines = section.describe();
    for (absl::string_view line :
         absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
      absl::StrAppend(&text, "  ", line, "\n");
    }
  }
  return text;
}

std::string DescribeProcess(absl::Time now) {
  const ProcessUsage usage = ReadProcessUsage();
  const absl::Duration uptime =
      absl::Seconds(absl::ToUnixSeconds(now) -
                    static_cast<int64_t>(usage.start_time_seconds));
  return absl::StrCat("tdpd ", kVersion, " pid=", getpid(),
                      " uptime=", absl::FormatDuration(uptime),
                      " cpu_seconds=", usage.cpu_seconds,
                      " resident_bytes=", usage.resident_bytes,
                      " threads=", usage.threads, " open_fds=", usage.open_fds,
                      " of ", usage.max_fds, "\n",
                      "log lines dropped: ", DroppedLogLineCount(), "\n");
}

std::string DescribeExecutor(absl::string_view name, const Executor& executor) {
  return absl::StrCat(name, " queued=", executor.queued_count(), " of ",
                      executor.max_queued(),
                      " threads=", executor.thread_count(), "\n");
}

std::string DescribeCalls(std::vector<ActiveCall> calls, absl::Time now) {
  std::sort(calls.begin(), calls.end(),
            [](const ActiveCall& a, const ActiveCall& b) {
              return a.start_time < b.start_time;
            });
  std::string text = absl::StrCat(calls.size(), " calls\n");
  for (size_t i = 0; i < std::min(calls.size(), kMaxCallsShown); ++i) {
    const ActiveCall& call = calls[i];
    absl::StrAppend(
        &text, call.method,
        " peer=", call.peer.empty() ? "unknown" : absl::CHexEscape(call.peer));
    if (call.start_time != absl::InfinitePast()) {
      absl::StrAppend(&text, " age=",
                      absl::FormatDuration(absl::Trunc(now - call.start_time,
                                                       absl::Microseconds(1))),
                      " work_frames=", call.work);
    }
    absl::StrAppend(&text, call.cancelled ? " cancelled" : "", "\n");
  }
  if (calls.size() > kMaxCallsShown) {
    absl::StrAppend(&text, "and ", calls.size() - kMaxCallsShown, " more\n");
  }
  return text;
}

std::string DescribeVms(const VmRegistry& registry) {
  const std::vector<VmInfo> vms = registry.ListVms();
  std::string text = absl::StrCat(vms.size(), " VMs\n");
  for (const VmInfo& info : vms) {
    const absl::StatusOr<std::shared_ptr<Vm>> vm = registry.FindVm(info.id);
    absl::StrAppend(&text, vm.ok() ? DescribeVm(info, **vm)
                                   : absl::StrCat(info.id, " is gone\n"));
  }
  return text;
}

absl::StatusOr<std::string> WriteStateFile(const std::string& folder,
                                           absl::string_view text,
                                           absl::Time now) {
  const std::string path = absl::StrCat(
      folder, "/tdpd-state-",
      absl::FormatTime("%Y%m%dT%H%M%E6SZ", now, absl::UTCTimeZone()), ".txt");
  const int fd = open(
      path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return FileError(path, errno);
  int error = 0;
  while (!text.empty() && error == 0) {
    const ssize_t size = write(fd, text.data(), text.size());
    if (size >= 0) {
      text.remove_prefix(static_cast<size_t>(size));
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (close(fd) != 0 && error == 0) error = errno;
  if (error == 0) return path;
  unlink(path.c_str());
  return FileError(path, error);
}

}  // namespace tdp::server
