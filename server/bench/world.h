// World: what the rows work on: the daemon as shipped and the bare gRPC
// servers, each a process with a connection, and a VM of the daemon that is
// mapped frame by frame.
//
// Thread safety: belongs to the main thread.

#ifndef SERVER_BENCH_WORLD_H_
#define SERVER_BENCH_WORLD_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/bench/bench_client.h"
#include "server/bench/process_cpu.h"
#include "server/testing/daemon_process.h"

namespace tdp::server::bench {

struct WorldOptions {
  std::string tdpd;
  std::string echo_server;
  std::string hypervisor;
  uint64_t frame_count = 0;  // of the VM
  uint64_t seed = 0;
};

class World {
 public:
  enum Api { kCq, kSync, kCallback };
  static constexpr std::array<Api, 3> kApis = {kCq, kSync, kCallback};
  static const char* NameOf(Api api);

  struct Server {
    pid_t pid() const { return process->pid(); }

    std::string address;
    std::unique_ptr<DaemonProcess> process;
    std::unique_ptr<BenchClient> client;
  };

  // Ends the program if something does not start.
  explicit World(const WorldOptions& options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  Server& daemon() { return daemon_; }
  Server& echo(Api api) { return echos_[api]; }
  // This process and all servers.
  void UseCpus(Cpus cpus);

  uint64_t frame_count() const { return options_.frame_count; }
  // `count` random frames of the VM, others for each slice.
  absl::Span<const uint64_t> Frames(int64_t slice, size_t count) const;
  // Frames in one message of WalkFrames.
  size_t batch_size() const { return batch_size_; }

  // "kvm" or "software": what the daemon chose.
  std::string Hypervisor() const;

 private:
  Server Start(const std::string& name, const std::string& binary,
               std::vector<std::string> arguments);
  std::string PathOf(const std::string& name) const;
  void WriteCanned();

  const WorldOptions options_;
  const size_t batch_size_;
  std::string folder_;
  std::vector<uint64_t> frames_;
  Server daemon_;
  std::array<Server, 3> echos_;
};

}  // namespace tdp::server::bench

#endif  // SERVER_BENCH_WORLD_H_
