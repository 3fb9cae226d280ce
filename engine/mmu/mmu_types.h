// What the verbs of a TdpMmu take and answer.
//
// Thread safety: plain values.

#ifndef ENGINE_MMU_MMU_TYPES_H_
#define ENGINE_MMU_MMU_TYPES_H_

#include <cstdint>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/mmu/change_sequence.h"
#include "engine/mmu/frame_view.h"

namespace tdp {

// Asked between steps of a ranged verb; true ends it early.
using StopCheck = absl::FunctionRef<bool()>;

// How far a ranged verb came. On error the frames before `next_gfn` are done.
struct MmuProgress {
  Gfn next_gfn;
  int64_t changed_frames = 0;
  int64_t changed_entries = 0;  // leaves changed, split or built
  absl::Status status = absl::OkStatus();
};

struct MapOptions {
  PageLevel max_level = PageLevel::k2M;
  // Map writable memory writable at once, not on the first write.
  bool write = false;
};

// A guest access that the host could not serve.
struct PageFault {
  Gfn gfn;
  bool write = false;
  // Whether a frame that is not mapped may be: else the fault is kForbidden.
  bool may_install = true;
  // Whether its neighbours may be mapped along, as the memslot says.
  bool around = true;
  // TdpMmu::ReadSequence(gfn), read before the caller found that the access
  // still waits. Without it the fault reads it itself.
  std::optional<ChangeSequence::Snapshot> sequence;
  // TdpMmu::ReadSweeps(), read before the event that told of the access.
  // Without it the access is known to wait still.
  std::optional<uint64_t> sweeps;
};

enum class FaultResult {
  kFixed,           // an entry was installed
  kSpurious,        // the entry allowed it; the host mapping was renewed
  kRetry,           // the frame changes or has changed: the vCPU looks again
  kWriteProtected,  // a write was granted to a mapped frame
  kUnbacked,        // no memslot holds the frame
  kChanging,        // the memslot is changing; wake the vCPU and look again
  kForbidden,       // the memslot, a limit or the caller forbids the access
  kFailed,          // see FaultOutcome::status
};

struct FaultOutcome {
  FaultResult result;
  absl::Status status;
};

// Whether a walk of many frames asks for entries some time before it reads
// them. Worth it unless they are in the cache.
enum class Prefetch { kNo, kYes };

struct WalkOptions {
  PageLevel min_level = PageLevel::k4K;
  bool leaves_only = false;
  bool present_only = false;
  // Entries that begin before this frame were reported already.
  Gfn resume_gfn;
};

// A frame on which the tables and the host disagree.
struct AuditFinding {
  Gfn gfn;
  WalkedEntry entry;
  HostFrame host;
  bool host_grants_more = false;
};

// One operation of ApplyBatch().
struct MmuOperation {
  enum class Kind { kZap, kProtect, kWriteProtect, kMap };
  Kind kind = Kind::kZap;
  GfnRange range;
  Access access;                         // kProtect: the most that is granted
  PageLevel min_level = PageLevel::k4K;  // kWriteProtect
  PageLevel max_level = PageLevel::k2M;  // kMap: an upper bound
  bool write = false;                    // kMap: see MapOptions::write

  // Leaves frames that can be read and not written.
  bool HoldsWritesBack() const {
    return kind == Kind::kWriteProtect ||
           (kind == Kind::kProtect && access.read && !access.write);
  }
};

struct BatchOutcome {
  int64_t changed_entries = 0;
  // From the first entry frozen to the last one written.
  absl::Duration hold_duration;
  absl::Status status = absl::OkStatus();
};

struct AuditProgress {
  Gfn next_gfn;
  int64_t compared_frames = 0;
  absl::Status status = absl::OkStatus();
};

}  // namespace tdp

#endif  // ENGINE_MMU_MMU_TYPES_H_
