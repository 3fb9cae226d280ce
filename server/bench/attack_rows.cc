// A1 to A4: what a client that behaves well notices of one that attacks.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "server/bench/rpc_rows.h"
#include "server/bench/walk_sides.h"
#include "server/testing/http2_attacker.h"

namespace tdp::server::bench {
namespace {

using tdp::bench::Harness;
using tdp::bench::Side;

constexpr absl::Duration kPace = absl::Milliseconds(1);

// A process that attacks again and again. At a low priority: what counts is
// what it makes the daemon do, not what it takes of this machine by itself.
class Attacker {
 public:
  explicit Attacker(std::function<void()> attack)
      : attack_(std::move(attack)) {}

  void Start() {
    pid_ = fork();
    TDP_CHECK(pid_ >= 0, "no process for the attacker");
    if (pid_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpriority(PRIO_PROCESS, 0, 19);
    for (;;) attack_();
  }
  void Stop() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  const std::function<void()> attack_;
  pid_t pid_ = -1;
};

// A call every millisecond, counted from when it was due; the time that 99 % of
// them do not exceed.
Side PacedWalks(World& world, size_t calls) {
  return [&world, calls](int64_t slice) {
    std::vector<double> times;
    absl::Time due = absl::Now();
    for (const uint64_t frame : world.Frames(slice, calls)) {
      absl::SleepFor(due - absl::Now());
      world.daemon().client->WalkGfn(frame);
      times.push_back(absl::ToDoubleNanoseconds(absl::Now() - due));
      due += kPace;
    }
    return tdp::bench::Percentile(std::move(times), 0.99);
  };
}

void FloodResets(const std::string& socket) {
  Http2Attacker attacker;
  if (!attacker.Connect(socket)) return;
  attacker.Send(http2::Preface() + http2::Settings());
  attacker.Flood(100000, [](int64_t n) {
    const auto id = static_cast<uint32_t>(2 * n + 1);
    return http2::CallHeaders(id, http2::kGetInfo) + http2::Reset(id);
  });
}

void FloodHeaders(const std::string& socket) {
  static const std::string filler(16000, 'f');
  Http2Attacker attacker;
  if (!attacker.Connect(socket)) return;
  attacker.Send(http2::Preface() + http2::Settings());
  attacker.Flood(10000, [](int64_t n) {
    return http2::CallHeaders(static_cast<uint32_t>(2 * n + 1), http2::kGetInfo,
                              1, filler);
  });
}

void OpenConnections(const std::string& socket) {
  std::deque<Http2Attacker> attackers(1000);
  for (Http2Attacker& attacker : attackers) {
    if (!attacker.Connect(socket)) continue;
    attacker.Send(http2::Preface() + http2::Settings());
  }
}

void LeaveAnswersUnread(const std::string& socket) {
  Http2Attacker attacker;
  if (!attacker.Connect(socket)) return;
  attacker.Send(http2::Preface() + http2::Settings());
  attacker.Flood(
      250,
      [](int64_t n) {
        const auto id = static_cast<uint32_t>(2 * n + 1);
        return http2::CallHeaders(id, http2::kGetInfo) +
               http2::CallMessage(id, "");
      },
      Http2Attacker::Reading::kNeverReads);
  attacker.AwaitHangUp(absl::Seconds(1));
}

}  // namespace

void RunAttackRows(Harness& harness, World& world) {
  const struct {
    const char* id;
    const char* what;
    void (*attack)(const std::string& socket);
  } rows[] = {
      {"A1", "streams opened and reset", FloodResets},
      {"A2", "a thousand connections", OpenConnections},
      {"A3", "16 KiB of headers a call", FloodHeaders},
      {"A4", "answers that nobody reads", LeaveAnswersUnread},
  };
  const size_t calls = harness.options().quick ? 20 : 1000;
  const std::string socket(absl::StripPrefix(world.daemon().address, "unix:"));
  for (const auto& row : rows) {
    if (!harness.Wants(row.id)) continue;
    world.UseCpus(Cpus::kAll);
    Attacker attacker([&] { row.attack(socket); });
    const Side idle = PacedWalks(world, calls);
    harness.Measure({.id = row.id,
                     .what = absl::StrCat("WalkGfn every ms, p99: while "
                                          "another floods with ",
                                          row.what, " / idle"),
                     .candidate =
                         [&attacker, idle](int64_t slice) {
                           attacker.Start();
                           const double time = idle(slice);
                           attacker.Stop();
                           return time;
                         },
                     .baseline = idle,
                     .target = 3.0});
  }
}

}  // namespace tdp::server::bench
