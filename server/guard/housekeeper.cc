#include "server/guard/housekeeper.h"

#include <malloc.h>
#include <pthread.h>

#include <cstdint>

#include "absl/time/time.h"
#include "server/guard/connection_table.h"

namespace tdp::server {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(1);
// Connections and streams that end within an interval, from which on memory is
// worth looking for. Those that are refused cost none: gRPC does not hear of
// them.
constexpr int64_t kManyConnections = 64;
constexpr int64_t kManyStreams = 256;

// Connections that were open and are no more, since the start: those that came
// and went between two looks are among them.
int64_t Ended(const GuardStats& stats) {
  return stats.accepted_connections - stats.open_connections;
}

}  // namespace

GuardHousekeeper::GuardHousekeeper() : thread_([this] { Run(); }) {}

GuardHousekeeper::~GuardHousekeeper() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
}

void GuardHousekeeper::Run() {
  pthread_setname_np(pthread_self(), "tdpd-guard");
  ConnectionTable& table = ConnectionTable::Get();
  int64_t cuts = table.stats().cut_connections;
  int64_t stalled = table.stats().ended_stalled;
  int64_t ended = Ended(table.stats());
  int64_t streams = table.stats().open_streams;
  bool attacked = false;
  absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&stop_), kInterval)) {
    table.Sweep();
    const GuardStats stats = table.stats();
    // What could not be written to one that stalled was memory, too. On TCP the
    // kernel may close it before the sweep does (TCP_USER_TIMEOUT).
    const bool is_busy = stats.cut_connections != cuts ||
                         stats.ended_stalled != stalled ||
                         Ended(stats) - ended >= kManyConnections ||
                         stats.open_streams + kManyStreams < streams;
    // One more time when it is over: calls end after their connections.
    if (is_busy || attacked) malloc_trim(0);
    attacked = is_busy;
    cuts = stats.cut_connections;
    stalled = stats.ended_stalled;
    ended = Ended(stats);
    streams = stats.open_streams;
  }
}

}  // namespace tdp::server
