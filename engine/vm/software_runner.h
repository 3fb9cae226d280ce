// SoftwareRunner: a vCPU that is a host thread and touches the window itself.
// It runs the built-in touch guest.
//
// Thread safety: as VcpuRunner. The memslots do not change while it is in
// Run(): who changes them parks the vCPUs first.

#ifndef ENGINE_VM_SOFTWARE_RUNNER_H_
#define ENGINE_VM_SOFTWARE_RUNNER_H_

#include <atomic>
#include <memory>
#include <optional>

#include "engine/memory/memslot_table.h"
#include "engine/vm/touch_sequence.h"
#include "engine/vm/vcpu_runner.h"

namespace tdp {

class SoftwareRunner final : public VcpuRunner {
 public:
  // `memslots` outlives the runner.
  explicit SoftwareRunner(const MemslotTable& memslots) : memslots_(memslots) {}

  absl::Status Boot(const LoadedGuest& guest) override;
  void BindThread() override {}
  void UnbindThread() override {}
  GuestExit Run() override;
  void CompleteAccess(absl::Span<const uint8_t>) override { FinishTouch(); }
  void Kick() override { kicked_.store(true, std::memory_order_release); }
  void ClearKick() override { kicked_.store(false, std::memory_order_release); }
  uint64_t instruction_pointer() const override { return 0; }
  int64_t touched_frame_count() const override {
    // Relaxed: a value to show.
    return touched_count_.load(std::memory_order_relaxed);
  }

 private:
  void FinishTouch();

  const MemslotTable& memslots_;
  std::atomic<bool> kicked_{false};
  std::atomic<int64_t> touched_count_{0};

  // Of the vCPU's thread.
  std::optional<TouchSequence> sequence_;
  bool write_ = false;
  // The touch that is under way: kept until it is done.
  std::optional<Touch> touch_;
};

}  // namespace tdp

#endif  // ENGINE_VM_SOFTWARE_RUNNER_H_
