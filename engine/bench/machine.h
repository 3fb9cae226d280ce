// What a reader must know about the machine to trust a figure, and the time
// that other guests of its host stole.
//
// Thread safety: all functions, from any thread.

#ifndef ENGINE_BENCH_MACHINE_H_
#define ENGINE_BENCH_MACHINE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tdp::bench {

// Name and value, in the order to print.
std::vector<std::pair<std::string, std::string>> MachineFacts();

// Over all CPUs since the start, with the kernel's resolution of 10 ms.
int64_t StolenMs();
// Times that the process lost a CPU while it wanted to run.
int64_t InvoluntarySwitches();
int64_t ResidentBytes();
// The memory at `address` lies in a mapping that has huge pages.
bool InHugePages(const void* address);

// The calling thread runs on this CPU only; nothing if there is no such CPU.
void PinToCpu(int cpu);

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_MACHINE_H_
