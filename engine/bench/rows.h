// The rows, in groups that share a fixture. Each runs those of its rows that
// are asked for and sets up nothing for the others.
//
// Thread safety: belong to the main thread.

#ifndef ENGINE_BENCH_ROWS_H_
#define ENGINE_BENCH_ROWS_H_

#include "engine/bench/harness.h"

namespace tdp::bench {

void RunWalkRows(Harness& harness);        // E1 to E4
void RunMapRows(Harness& harness);         // E5, E6
void RunZapRows(Harness& harness);         // E7, E8
void RunHoldRows(Harness& harness);        // E9
void RunSharedLineRows(Harness& harness);  // E10
void RunTableBytesRows(Harness& harness);  // E11
void RunDirtyLogRows(Harness& harness);    // E13
void RunGuestRows(Harness& harness);       // E12
void RunUserfaultRows(Harness& harness);   // F1
void RunWindowRows(Harness& harness);      // F2, F3
void RunMapAroundRows(Harness& harness);   // F4
void RunHarvestRows(Harness& harness);     // F5
void RunDirtyGuestRows(Harness& harness);  // F6
void RunKvmFaultRows(Harness& harness);    // F7

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_ROWS_H_
