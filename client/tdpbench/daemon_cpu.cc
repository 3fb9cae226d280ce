#include "client/tdpbench/daemon_cpu.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

// Fields after the name of the program, which may hold anything.
constexpr size_t kUserTicks = 11;
constexpr size_t kSystemTicks = 12;

}  // namespace

DaemonCpu::DaemonCpu(const Target& target) {
  if (!IsUnixTarget(target)) return;
  absl::string_view path = target.address;
  absl::ConsumePrefix(&path, "unix:");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return;
  memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) == 0 &&
      getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
    pid_ = peer.pid;
  }
  close(fd);
}

std::optional<absl::Duration> DaemonCpu::Now() const {
  // 0: the daemon is in another PID namespace.
  if (pid_ <= 0) return std::nullopt;
  std::ifstream file(absl::StrCat("/proc/", pid_, "/stat"));
  const std::string stat{std::istreambuf_iterator<char>(file), {}};
  return CpuInStat(stat, sysconf(_SC_CLK_TCK));
}

std::optional<absl::Duration> CpuInStat(const std::string& stat,
                                        int64_t ticks_per_second) {
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  int64_t user = 0;
  int64_t system = 0;
  if (fields.size() <= kSystemTicks ||
      !absl::SimpleAtoi(fields[kUserTicks], &user) ||
      !absl::SimpleAtoi(fields[kSystemTicks], &system)) {
    return std::nullopt;
  }
  return absl::Seconds(1) * (user + system) / ticks_per_second;
}

}  // namespace tdp::client
