#include "server/bench/world.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tdp::server::bench {
namespace {

constexpr char kVm[] = "bench";
constexpr size_t kBatchSize = 4096;
// Rows take slices of these.
constexpr size_t kRandomFrames = size_t{1} << 20;
constexpr char kWalkGfnFile[] = "walk_gfn";
constexpr char kWalkFramesFile[] = "walk_frames";

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  TDP_CHECK(file.flush().good(), "cannot write below /tmp");
}

}  // namespace

const char* World::NameOf(Api api) {
  return std::array<const char*, 3>{"cq", "sync", "callback"}[api];
}

World::World(const WorldOptions& options)
    : options_(options),
      batch_size_(std::min<uint64_t>(kBatchSize, options.frame_count)) {
  char folder[] = "/tmp/tdpd-rpc-bench-XXXXXX";
  TDP_CHECK(mkdtemp(folder) != nullptr, "cannot write below /tmp");
  folder_ = folder;
  std::mt19937_64 random(options.seed);
  frames_.resize(kRandomFrames);
  for (uint64_t& frame : frames_) frame = random() % options.frame_count;

  daemon_ = Start("tdpd", options.tdpd,
                  {absl::StrCat("--listen=unix:", PathOf("tdpd")),
                   absl::StrCat("--hypervisor=", options.hypervisor)});
  daemon_.client->CreateVm(options.frame_count);
  daemon_.client->Map(0, options.frame_count, v1::PAGE_LEVEL_4K);
  WriteCanned();
  for (const Api api : kApis) {
    const std::string name = NameOf(api);
    echos_[api] = Start(name, options.echo_server,
                        {name, absl::StrCat("unix:", PathOf(name)),
                         PathOf(kWalkGfnFile), PathOf(kWalkFramesFile)});
  }
}

World::~World() {
  daemon_.client.reset();
  daemon_.process->Signal(SIGTERM);
  daemon_.process->AwaitExit();
  for (Server& echo : echos_) {
    echo.client.reset();
    echo.process.reset();
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void World::UseCpus(Cpus cpus) {
  bench::UseCpus(getpid(), cpus);
  bench::UseCpus(daemon_.pid(), cpus);
  for (Server& echo : echos_) bench::UseCpus(echo.pid(), cpus);
}

absl::Span<const uint64_t> World::Frames(int64_t slice, size_t count) const {
  const size_t slices = frames_.size() / count;
  return absl::MakeConstSpan(frames_).subspan(
      static_cast<size_t>(slice) % slices * count, count);
}

std::string World::Hypervisor() const {
  return absl::StrContains(daemon_.process->Output(), "hypervisor kvm")
             ? "kvm"
             : "software";
}

World::Server World::Start(const std::string& name, const std::string& binary,
                           std::vector<std::string> arguments) {
  Server server;
  server.address = absl::StrCat("unix:", PathOf(name));
  server.process = std::make_unique<DaemonProcess>(
      binary, std::move(arguments), PathOf(absl::StrCat(name, ".log")));
  if (!server.process->AwaitReady()) {
    std::fprintf(stderr, "rpc_bench: %s did not start: %s\n", binary.c_str(),
                 server.process->Output().c_str());
    std::exit(1);
  }
  server.client = std::make_unique<BenchClient>(server.address, kVm);
  return server;
}

std::string World::PathOf(const std::string& name) const {
  return absl::StrCat(folder_, "/", name);
}

// The echos answer with the daemon's own bytes.
void World::WriteCanned() {
  Write(PathOf(kWalkGfnFile),
        daemon_.client->WalkGfn(frames_[0]).SerializeAsString());
  Write(PathOf(kWalkFramesFile),
        daemon_.client->WalkFrames(Frames(0, batch_size_)).SerializeAsString());
}

}  // namespace tdp::server::bench
