// The plain values that go into and come out of the Vm facade.
//
// They mirror the API's messages without its transport: a server converts,
// field by field. Thread safety: values.

#ifndef ENGINE_VM_VM_TYPES_H_
#define ENGINE_VM_VM_TYPES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "engine/base/types.h"

namespace tdp {

enum class HypervisorKind { kUnspecified = 0, kKvm = 1, kSoftware = 2 };

enum class VmState {
  kCreated = 1,
  kRunning = 2,
  kPaused = 3,
  kStopped = 4,
  kFailed = 5,
};

struct VmConfig {
  int vcpu_count = 0;
  int64_t page_table_limit_bytes = 0;  // 0: limits::kDefault...
  std::map<std::string, std::string> labels;
  HypervisorKind hypervisor = HypervisorKind::kUnspecified;
  int root_level = 0;  // 4 or 5; 0: 4
};

struct VmInfo {
  std::string id;
  VmConfig config;  // with what was chosen
  VmState state = VmState::kCreated;
  absl::Time create_time;
  std::string etag;
};

enum class FaultPolicy { kUnspecified = 0, kMap = 1, kWait = 2 };
enum class DirtyMode { kUnspecified = 0, kWriteProtect = 1, kHarvest = 2 };

struct FileSourceConfig {
  std::string path;  // below the image directory
  int64_t offset_bytes = 0;
};

struct MemslotConfig {
  Gfn base_gfn;
  int64_t frame_count = 0;
  bool read_only = false;
  bool dirty_log_enabled = false;
  int host_page_level = 0;  // 0 (default), 1 or 2; as the API's PageLevel
  std::optional<FileSourceConfig> source;
  FaultPolicy fault_policy = FaultPolicy::kUnspecified;
  DirtyMode dirty_mode = DirtyMode::kUnspecified;
  int map_around_frame_count = 0;
  bool dirty_log_initially_set = false;
};

struct MemslotInfo {
  std::string id;
  MemslotConfig config;
  std::string etag;
};

// The fields of a memslot that an update may write; unset means keep.
struct MemslotUpdate {
  std::optional<Gfn> base_gfn;
  std::optional<bool> read_only;
  std::optional<bool> dirty_log_enabled;
  std::optional<FaultPolicy> fault_policy;
  std::optional<int> map_around_frame_count;
  std::optional<bool> dirty_log_initially_set;
};

enum class TouchPattern {
  kSequential = 1,
  kShuffled = 2,
  kUniform = 3,
  kHotTenth = 4
};

struct TouchGuestConfig {
  GfnRange range;
  TouchPattern pattern = TouchPattern::kSequential;
  bool write = false;
  int64_t pass_count = 0;  // 0: 1; -1: until stopped
  uint64_t seed = 0;
};

enum class CodeMode { kReal = 1, kLong = 2 };

struct CodeGuestConfig {
  std::string code;
  Gpa entry_gpa;
  CodeMode mode = CodeMode::kLong;
};

struct ElfGuestConfig {
  std::string path;  // below the image directory
};

using GuestConfig =
    std::variant<TouchGuestConfig, CodeGuestConfig, ElfGuestConfig>;

enum class VcpuState {
  kIdle = 1,
  kRunning = 2,
  kPaused = 3,
  kExited = 4,
  kWaiting = 5,
};

enum class WaitCause {
  kFaultPolicy = 1,
  kProtection = 2,
  kSourceFailed = 3,
  kHostFailed = 4
};

// An access that keeps its vCPU out of the guest.
struct WaitingAccess {
  int64_t access_id = 0;
  Gfn gfn;
  Access access;
  int vcpu_index = 0;
  WaitCause cause = WaitCause::kFaultPolicy;
  std::string detail;
};

// What becomes of an access that waits.
enum class Verdict {
  kGrant = 1,  // map the frame and go on; never beyond the memslot
  kRetry = 2,  // look again, and read a failed source again
  kKill = 3,   // the VM becomes FAILED
};

struct VcpuInfo {
  int index = 0;
  VcpuState state = VcpuState::kIdle;
  std::string exit_reason;
  uint64_t instruction_pointer = 0;
  std::string console;
  int64_t touched_frame_count = 0;
  std::optional<WaitingAccess> waiting_access;
};

// One decoded entry, as seen at one instant.
struct SpteView {
  PageLevel level = PageLevel::k4K;
  Gfn base_gfn;
  uint64_t raw = 0;
  bool present = false;
  bool leaf = false;
  bool frozen = false;
  Pfn pfn;
  Access access;
  bool accessed = false;
  bool dirty = false;
  bool host_writable = false;
  bool mmu_writable = false;
};

// Progress of a ranged call. `changed` counts what the verb's response counts:
// frames mapped, frames zapped, entries changed.
struct RangeProgress {
  Gfn next_gfn;
  int64_t changed = 0;
};

struct AgeOptions {
  bool test_only = false;  // look, and leave the Accessed bits as they are
  bool bitmap = false;     // report each young frame, not just their number
};

// Bit i of byte j stands for frame first_gfn + 8 * j + i.
struct FrameBitmap {
  Gfn first_gfn;  // a multiple of 64
  int64_t frame_count = 0;
  std::string bits;
};

struct DiscardResult {
  Gfn next_gfn;
  int64_t freed_bytes = 0;  // as the host counts them
};

struct AgeResult {
  Gfn next_gfn;
  int64_t young_frame_count = 0;
  std::optional<FrameBitmap> young;  // if AgeOptions::bitmap
};

// Frames that are mapped and whose idle age is `min_age` or longer, up to the
// `min_age` of the next bucket.
struct WorkingSetBucket {
  absl::Duration min_age;
  int64_t frame_count = 0;
};

// How much memory the guest uses, by idle age: the time from the last scan that
// found the frame used to this one, from beginning to beginning. A huge mapping
// has one age for all of its frames.
//
// The buckets are always the same, by ascending `min_age`: 0, which is what was
// used since the scan before; 100 ms; and so on, doubling, to 13,107.2 s. A
// frame that was not used when a scan first saw it has been idle for nobody
// knows how long: its age counts from there, and begins at 100 ms.
struct WorkingSet {
  absl::Time scan_time;  // the end of the scan
  std::vector<WorkingSetBucket> buckets;
};

// What a watcher of the working set has not read yet. `closed`: the VM is
// deleted and nothing follows.
struct WorkingSetUpdate {
  std::optional<WorkingSet> working_set = std::nullopt;
  bool closed = false;
};

struct BatchOperation {
  enum class Kind { kZap, kProtect, kWriteProtect, kMap };
  Kind kind = Kind::kZap;
  GfnRange range;
  Access access;       // kProtect
  int level = 0;       // kWriteProtect: min_level; kMap: max_level; 0: unset
  bool write = false;  // kMap
};

struct BatchResult {
  int64_t changed_spte_count = 0;
  // From the first entry frozen to the last one written.
  absl::Duration hold_duration;
};

struct WalkFramesResult {
  std::vector<uint64_t> raw_sptes;
  std::string levels;  // one byte each
};

struct WalkRangeOptions {
  PageLevel min_level = PageLevel::k4K;
  bool leaves_only = false;
  bool present_only = false;
  // Goes on with a walk: where its last call stopped. Entries that begin
  // before this frame were reported already.
  Gfn resume_gfn;
};

struct DivergenceView {
  Gfn gfn;
  SpteView engine;
  bool host_present = false;
  bool host_writable = false;
};

struct AuditResult {
  Gfn next_gfn;
  int64_t compared_frame_count = 0;
  int64_t divergent_frame_count = 0;      // the host grants more: a bug
  int64_t host_stricter_frame_count = 0;  // the host grants less: legal
  std::vector<DivergenceView> divergences;
};

struct FaultOutcomeStats {
  std::string outcome;
  int64_t fault_count = 0;
  std::vector<int64_t> latency_us_log2_counts;
};

struct VmStats {
  absl::Time sample_time;
  int64_t leaf_4k_count = 0;
  int64_t leaf_2m_count = 0;
  int64_t leaf_1g_count = 0;
  int64_t page_table_bytes = 0;
  int64_t deferred_free_count = 0;
  int64_t fault_fixed_count = 0;
  int64_t fault_spurious_count = 0;
  int64_t fault_retry_count = 0;
  int64_t host_call_count = 0;
  int64_t yield_count = 0;
  int64_t exclusive_hold_count = 0;
  int64_t exclusive_hold_nanoseconds = 0;
  int64_t fault_write_protected_count = 0;
  int64_t fault_unbacked_count = 0;
  int64_t fault_source_error_count = 0;
  int64_t waiting_access_count = 0;
  std::vector<FaultOutcomeStats> fault_outcomes;
};

struct VmStateChangedEvent {
  VmState old_state;
  VmState new_state;
};
struct MemslotChangedEvent {
  std::string memslot_id;
  bool deleted = false;
};
struct UnbackedAccessEvent {
  Gfn gfn;
  Access access;
};
struct VcpuExitedEvent {
  int vcpu_index = 0;
  std::string reason;
};

struct Event {
  int64_t sequence = 0;
  absl::Time time;
  std::variant<VmStateChangedEvent, MemslotChangedEvent, UnbackedAccessEvent,
               WaitingAccess, VcpuExitedEvent>
      detail;
};

// A piece of the event log. `closed`: the VM is deleted and nothing follows.
struct EventBatch {
  std::vector<Event> events;
  int64_t next_sequence = 0;
  bool closed = false;
};

}  // namespace tdp

#endif  // ENGINE_VM_VM_TYPES_H_
