// CPU time of this process and others, and the CPUs that they may use.
//
// Thread safety: all functions, from any thread.

#ifndef SERVER_BENCH_PROCESS_CPU_H_
#define SERVER_BENCH_PROCESS_CPU_H_

#include <sys/types.h>
#include <time.h>

namespace tdp::server::bench {

// CPU time that this process and another spent together since it was made.
class CpuMeter {
 public:
  // REQUIRES: `pid` is a process of the same user that lives.
  explicit CpuMeter(pid_t pid);

  double ns() const { return Sum() - start_; }

 private:
  double Sum() const;

  clockid_t clock_;
  double start_;
};

enum class Cpus { kOne, kAll };

// All threads of the process, and those they start, use CPU 0 alone, or all
// CPUs that there are.
void UseCpus(pid_t pid, Cpus cpus);

}  // namespace tdp::server::bench

#endif  // SERVER_BENCH_PROCESS_CPU_H_
