// GuardStats: what the guard has seen since the process started.
//
// Thread safety: any thread.

#ifndef SERVER_GUARD_GUARD_STATS_H_
#define SERVER_GUARD_GUARD_STATS_H_

#include <cstdint>
#include <map>
#include <string>

namespace tdp::server {

struct GuardStats {
  // Now.
  int64_t open_connections = 0;
  int64_t open_streams = 0;
  // Since the start.
  int64_t accepted_connections = 0;
  int64_t cut_connections = 0;  // that were let in before
  int64_t ended_stalled = 0;    // connections whose peer had stopped to read
  // Connections cut off or not let in, by reason: "too_many_resets", ... Every
  // reason is there.
  std::map<std::string, int64_t> cuts;
};

GuardStats Stats();

}  // namespace tdp::server

#endif  // SERVER_GUARD_GUARD_STATS_H_
