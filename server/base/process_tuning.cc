#include "server/base/process_tuning.h"

#include <malloc.h>

#include "absl/synchronization/mutex.h"

namespace tdp::server {
namespace {

// A message of 32 KiB takes and gives back some 100 KiB. By default malloc
// returns that to the kernel after each call and takes it again, zeroed, page
// by page, in the next one: a third of the call. This much it keeps, in each of
// its few arenas.
constexpr int kKeptBytes = 2 << 20;
constexpr int kGrowBytes = 512 << 10;
// Larger ones come from the kernel and go back at once.
constexpr int kLargeBytes = 1 << 20;

}  // namespace

bool TuneProcess() {
#ifdef NDEBUG
  // Debian's Abseil comes with its debug checks, which track the order of all
  // locks, gRPC's too, behind one more lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
  return mallopt(M_TRIM_THRESHOLD, kKeptBytes) == 1 &&
         mallopt(M_TOP_PAD, kGrowBytes) == 1 &&
         mallopt(M_MMAP_THRESHOLD, kLargeBytes) == 1;
}

}  // namespace tdp::server
