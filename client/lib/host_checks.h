// What tdpd needs of a host: looked at from outside of the daemon, so that it
// helps where the daemon does not start.
//
// Thread safety: free functions.

#ifndef CLIENT_LIB_HOST_CHECKS_H_
#define CLIENT_LIB_HOST_CHECKS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tdp::client {

// How a host is looked at; a test's own, or SystemProbe().
struct HostProbe {
  std::function<std::string()> kernel_release;  // "6.6.1-amd64"
  // Opens a device for reading and writing. 0 or errno.
  std::function<int(const std::string& path)> try_open;
  std::function<std::optional<std::string>(const std::string& path)> read_file;
  // A userfaultfd that serves faults of the kernel, by system call. 0 or errno.
  std::function<int()> try_userfaultfd;
  // Whether membarrier() has private expedited commands.
  std::function<bool()> has_membarrier;
  std::function<uint64_t()> max_open_files;
  std::function<uint64_t()> max_locked_bytes;
};

HostProbe SystemProbe();

struct HostCheck {
  enum class Result { kOk, kWarning, kFailed };

  std::string name;
  Result result = Result::kOk;
  std::string found;
  // One command, or one sentence where no command helps; empty if all is well.
  std::string mend;
};

// In a fixed order, what everything needs first.
std::vector<HostCheck> CheckHost(const HostProbe& probe);

}  // namespace tdp::client

#endif  // CLIENT_LIB_HOST_CHECKS_H_
