// AccessTrace: which cache lines a piece of code touches, and how many
// instructions it takes. Counted, not sampled: the process's memory is made
// inaccessible, and each instruction that is caught by it runs alone.
//
// Seen is what is writable and might be shared: heap, anonymous mappings, data
// of the program and of its libraries. Not seen are stacks and thread-locals,
// of the main thread and of those that have an UntracedStack, and the C
// library's own data.
//
// Thread safety: one trace at a time. Threads that touch what is traced wait
// for the end of the trace; those without an UntracedStack must sleep.

#ifndef ENGINE_BENCH_ACCESS_TRACE_H_
#define ENGINE_BENCH_ACCESS_TRACE_H_

#include <cstdint>
#include <map>

#include "absl/functional/function_ref.h"

namespace tdp::bench {

inline constexpr uint64_t kLineBytes = 64;

// Address of the line, and whether it was written.
using TouchedLines = std::map<uint64_t, bool>;

// Leaves the stack and the thread-locals of a thread out of all traces. Made
// and destroyed by that thread, which is not the main one.
class UntracedStack {
 public:
  UntracedStack();
  ~UntracedStack();
  UntracedStack(const UntracedStack&) = delete;
  UntracedStack& operator=(const UntracedStack&) = delete;

 private:
  uint64_t start_;
};

// REQUIRES: this thread has an UntracedStack; `code` makes no system call.
TouchedLines TraceLines(absl::FunctionRef<void()> code);

// Instructions between the call and the return of `code`.
int64_t CountInstructions(absl::FunctionRef<void()> code);

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_ACCESS_TRACE_H_
