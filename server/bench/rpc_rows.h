// The rows, in groups. Each runs those of its rows that are asked for and sets
// up nothing for the others.
//
// Thread safety: belong to the main thread.

#ifndef SERVER_BENCH_RPC_ROWS_H_
#define SERVER_BENCH_RPC_ROWS_H_

#include "engine/bench/harness.h"
#include "server/bench/world.h"

namespace tdp::server::bench {

void RunUnaryRows(tdp::bench::Harness& harness, World& world);         // R1
void RunBulkRows(tdp::bench::Harness& harness, World& world);          // R2, R3
void RunStreamRows(tdp::bench::Harness& harness, World& world);        // R4
void RunInterferenceRows(tdp::bench::Harness& harness, World& world);  // R5
void RunApiRows(tdp::bench::Harness& harness, World& world);           // R6
void RunAttackRows(tdp::bench::Harness& harness, World& world);        // A1-4

}  // namespace tdp::server::bench

#endif  // SERVER_BENCH_RPC_ROWS_H_
