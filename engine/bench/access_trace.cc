#include "engine/bench/access_trace.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "engine/base/types.h"
#include "engine/sync/mutex.h"

namespace tdp::bench {
namespace {

struct Region {
  uint64_t start;
  uint64_t end;
};

// Everything that the signal handlers use, on pages of its own that stay
// accessible. They call nothing and use no other memory.
struct alignas(kPageSize) TraceState {
  static constexpr int kMaxRegions = 4096;
  static constexpr int kMaxOpenPages = 8;
  static constexpr int kMaxTouches = 1 << 14;

  volatile bool tracing;
  volatile int64_t instructions;
  long thread;
  int region_count;
  int open_count;
  int touch_count;
  Region regions[kMaxRegions];
  uint64_t open_pages[kMaxOpenPages];
  struct {
    uint64_t line;
    bool written;
  } touches[kMaxTouches];
};
TraceState state;

constexpr greg_t kTrapFlag = 0x100;
constexpr greg_t kWriteFault = 0x2;

// Not the C library's: it may read memory that is inaccessible.
inline long RawCall(long number, long a = 0, long b = 0, long c = 0) {
  long result = number;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a), "S"(b), "d"(c)
               : "rcx", "r11", "memory");
  return result;
}

inline void Protect(Region region, int protection) {
  RawCall(SYS_mprotect, static_cast<long>(region.start),
          static_cast<long>(region.end - region.start), protection);
}

inline bool IsTraced(uint64_t address) {
  for (int i = 0; i < state.region_count; ++i) {
    if (state.regions[i].start <= address && address < state.regions[i].end) {
      return true;
    }
  }
  return false;
}

void OnSegv(int, siginfo_t* info, void* raw_context) {
  auto* const context = static_cast<ucontext_t*>(raw_context);
  const auto address = reinterpret_cast<uint64_t>(info->si_addr);
  if (!IsTraced(address)) RawCall(SYS_exit_group, 139);
  if (RawCall(SYS_gettid) != state.thread) {
    while (state.tracing) RawCall(SYS_sched_yield);
    return;
  }
  if (state.touch_count == TraceState::kMaxTouches ||
      state.open_count == TraceState::kMaxOpenPages) {
    RawCall(SYS_exit_group, 140);
  }
  state.touches[state.touch_count].line = address & ~(kLineBytes - 1);
  state.touches[state.touch_count].written =
      (context->uc_mcontext.gregs[REG_ERR] & kWriteFault) != 0;
  ++state.touch_count;
  const uint64_t page = address & ~(kPageSize - 1);
  state.open_pages[state.open_count++] = page;
  Protect({page, page + kPageSize}, PROT_READ | PROT_WRITE);
  context->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}

void OnTrap(int, siginfo_t* info, void* raw_context) {
  auto* const context = static_cast<ucontext_t*>(raw_context);
  if (info->si_code == SI_KERNEL) {  // int3: begin or end counting
    context->uc_mcontext.gregs[REG_EFL] ^= kTrapFlag;
    return;
  }
  if (!state.tracing) {
    state.instructions = state.instructions + 1;
    return;
  }
  while (state.open_count > 0) {
    const uint64_t page = state.open_pages[--state.open_count];
    Protect({page, page + kPageSize}, PROT_NONE);
  }
  context->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
}

class Handler {
 public:
  Handler(int signal, void (*handle)(int, siginfo_t*, void*))
      : signal_(signal) {
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    TDP_CHECK(sigaction(signal, &action, &old_) == 0, "sigaction failed");
  }
  ~Handler() { sigaction(signal_, &old_, nullptr); }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

 private:
  const int signal_;
  struct sigaction old_ = {};
};

void AddWithout(Region region, const std::vector<Region>& holes) {
  for (const Region& hole : holes) {
    if (hole.end <= region.start || region.end <= hole.start) continue;
    if (region.start < hole.start) {
      AddWithout({region.start, hole.start}, holes);
    }
    if (hole.end < region.end) AddWithout({hole.end, region.end}, holes);
    return;
  }
  TDP_CHECK(state.region_count < TraceState::kMaxRegions, "many mappings");
  state.regions[state.region_count++] = region;
}

// The mapping with the thread-locals of the main thread begins or ends with
// other data; what is near its thread pointer is left out.
uint64_t main_thread_pointer = 0;
[[gnu::constructor]] void NoteMainThread() {
  main_thread_pointer = reinterpret_cast<uint64_t>(__builtin_thread_pointer());
}

Mutex stacks_mutex;
std::vector<Region> untraced_stacks ABSL_GUARDED_BY(stacks_mutex);

std::vector<Region> UntracedRegions() {
  std::vector<Region> holes;
  {
    MutexLock lock(stacks_mutex);
    holes = untraced_stacks;
  }
  const auto own = reinterpret_cast<uint64_t>(&state);
  holes.push_back({own, own + sizeof(state)});
  const uint64_t main_page = main_thread_pointer & ~(kPageSize - 1);
  constexpr uint64_t kNear = 8 * kPageSize;
  holes.push_back({main_page - kNear, main_page + kNear});
  return holes;
}

void FindRegions() {
  const std::vector<Region> holes = UntracedRegions();
  state.region_count = 0;
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    std::istringstream words(line);
    std::string bounds, access, offset, device, inode, path;
    words >> bounds >> access >> offset >> device >> inode >> path;
    if (!absl::StartsWith(access, "rw")) continue;
    if (path == "[stack]" || absl::StrContains(path, "/libc.so") ||
        absl::StrContains(path, "/ld-linux")) {
      continue;
    }
    const std::pair<std::string, std::string> ends =
        absl::StrSplit(bounds, absl::MaxSplits('-', 1));
    Region region = {};
    TDP_CHECK(absl::SimpleHexAtoi(ends.first, &region.start) &&
                  absl::SimpleHexAtoi(ends.second, &region.end),
              "an odd line in /proc/self/maps");
    AddWithout(region, holes);
  }
}

}  // namespace

UntracedStack::UntracedStack() {
  pthread_attr_t attributes;
  void* stack = nullptr;
  size_t bytes = 0;
  TDP_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0 &&
                pthread_attr_getstack(&attributes, &stack, &bytes) == 0,
            "a thread has a stack");
  pthread_attr_destroy(&attributes);
  start_ = reinterpret_cast<uint64_t>(stack);
  MutexLock lock(stacks_mutex);
  untraced_stacks.push_back({start_, start_ + bytes});
}

UntracedStack::~UntracedStack() {
  MutexLock lock(stacks_mutex);
  std::erase_if(untraced_stacks,
                [this](const Region& r) { return r.start == start_; });
}

TouchedLines TraceLines(absl::FunctionRef<void()> code) {
  FindRegions();
  const Handler segv(SIGSEGV, &OnSegv);
  const Handler trap(SIGTRAP, &OnTrap);
  state.thread = RawCall(SYS_gettid);
  state.touch_count = 0;
  state.open_count = 0;
  state.tracing = true;
  for (int i = 0; i < state.region_count; ++i) {
    Protect(state.regions[i], PROT_NONE);
  }
  code();
  for (int i = 0; i < state.region_count; ++i) {
    Protect(state.regions[i], PROT_READ | PROT_WRITE);
  }
  state.tracing = false;
  TouchedLines lines;
  for (int i = 0; i < state.touch_count; ++i) {
    lines[state.touches[i].line] |= state.touches[i].written;
  }
  return lines;
}

int64_t CountInstructions(absl::FunctionRef<void()> code) {
  const Handler trap(SIGTRAP, &OnTrap);
  const auto count = [](absl::FunctionRef<void()> counted) {
    state.instructions = 0;
    asm volatile("int3" : : : "memory");
    counted();
    asm volatile("int3" : : : "memory");
    return state.instructions;
  };
  const int64_t around = count([] {});
  return count(code) - around;
}

}  // namespace tdp::bench
