// FakeBackingTable: memslots whose host is an array of states, for tests of the
// tables above.
//
// It checks the one rule: a host call is made by the owner of FROZEN entries
// that cover its run, no two host calls are at one frame at the same time, a
// run lies inside its memslot and is no longer than a host call may be. What
// breaks it is kept in violations(). Host pages may be of 2M: then a run is
// made of whole ones.
//
// Thread safety: all methods, from any thread, where they do not say otherwise.

#ifndef ENGINE_TESTING_FAKE_BACKING_H_
#define ENGINE_TESTING_FAKE_BACKING_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/sync/mutex.h"
#include "engine/sync/pin_count.h"

namespace tdp::testing {

enum class HostCallKind { kMap, kUnmap, kProtect };

struct HostCall {
  HostCallKind kind;
  GfnRange run;
  int64_t number;  // of all host calls; the first is 1
};

// How a host call fails. `applied_frames` of its run change all the same, and
// `reported_frames` of them are admitted; all of them by Map(), which knows.
struct HostFailure {
  int error = 0;
  uint64_t applied_frames = 0;
  uint64_t reported_frames = 0;
};

// What the memslots of a table share.
class FakeHost {
 public:
  // Called inside each host call, before it changes anything; may block.
  // Set while no host call is running.
  using Hook = std::function<HostFailure(const HostCall&)>;
  void set_hook(Hook hook) { hook_ = std::move(hook); }
  // The `n`-th host call from now, counted from 1, fails; the others do not.
  // REQUIRES: as set_hook(), which it replaces.
  void FailNth(int64_t n, HostFailure failure);
  void ClearHook() { hook_ = nullptr; }

  // Says whether the entries that decide about a frame are FROZEN.
  // Set while no host call is running.
  void set_is_frozen(std::function<bool(Gfn)> is_frozen) {
    is_frozen_ = std::move(is_frozen);
  }

  int64_t call_count() const { return call_count_.load(); }
  std::vector<std::string> violations() const;

 private:
  friend class FakeBacking;

  HostFailure Enter(HostCallKind kind, GfnRange run);
  bool IsFrozen(Gfn gfn) const { return !is_frozen_ || is_frozen_(gfn); }
  void AddViolation(HostCallKind kind, GfnRange run, Gfn gfn, const char* what);

  Hook hook_;
  std::function<bool(Gfn)> is_frozen_;
  std::atomic<int64_t> call_count_{0};
  mutable Mutex mutex_;
  std::vector<std::string> violations_ ABSL_GUARDED_BY(mutex_);
};

struct FakeSlotOptions {
  GfnRange range;
  bool writable = true;
  PageLevel max_fault_level = PageLevel::k4K;
  PageLevel host_page_level = PageLevel::k4K;
  int fault_around = 1;
  bool write_protects = true;
};

class FakeBacking final : public Backing {
 public:
  FakeBacking(FakeHost& host, const FakeSlotOptions& options, Pfn base_pfn);

  // Backing.
  GfnRange range() const override { return options_.range; }
  Pfn base_pfn() const override { return base_pfn_; }
  bool writable() const override { return options_.writable; }
  bool write_protects() const override { return options_.write_protects; }
  bool tracks_writes() const override { return tracks_writes_.load(); }
  PageLevel max_fault_level() const override {
    return std::max(options_.max_fault_level, options_.host_page_level);
  }
  PageLevel host_page_level() const override {
    return options_.host_page_level;
  }
  absl::Status LoadContent(GfnRange run) override;
  HostCallResult Map(GfnRange run, HostProtection protection) override;
  HostCallResult Unmap(GfnRange run) override;
  HostCallResult Protect(GfnRange run, HostProtection protection) override;
  int fault_around() const override { return options_.fault_around; }
  GfnRange ReadyAround(Gfn gfn, GfnRange window) override;
  void NoteWritten(Gfn gfn) override;
  void Wake(GfnRange run) override;
  absl::Status Inspect(GfnRange run, absl::Span<HostFrame> frames) override;

  // The host.
  HostFrame At(Gfn gfn) const;
  bool Grants(Gfn gfn, bool write) const;
  bool HasContent(Gfn gfn) const;
  // Changes what the host maps, behind the tables' back.
  void SetHost(GfnRange run, HostFrame frame);
  // Frees the page; a Map() fails with EFAULT until it is loaded again.
  void DiscardContent(GfnRange run);
  // LoadContent() of this frame fails. Set while nobody loads.
  void FailContentOf(Gfn gfn, absl::Status status);
  void ClearContentFailure() { bad_content_.reset(); }

  // Sleepers.
  uint64_t WakeCount(Gfn gfn) const;
  // The dirty log, with one consumer.
  void set_tracks_writes(bool tracks) { tracks_writes_.store(tracks); }
  // Frames written since the last call, in ascending order.
  std::vector<Gfn> TakeWritten();
  // Waits until a frame is woken again after `seen`, a former WakeCount().
  [[nodiscard]] bool WaitForWake(Gfn gfn, uint64_t seen,
                                 absl::Duration timeout);

  // The memslot's life. Closing waits for the pins.
  void CloseForMap() { map_pins_.CloseAndDrain(); }
  void ReopenForMap() { map_pins_.Reopen(); }
  void CloseForUnmap() { unmap_pins_.CloseAndDrain(); }
  void ReopenForUnmap() { unmap_pins_.Reopen(); }
  // As if the memslot were deleted. REQUIRES: closed for both.
  void set_gone(bool gone) { gone_.store(gone); }
  bool gone() const { return gone_.load(); }

  PinResult Pin(PinMode mode);

 private:
  static constexpr uint8_t kPresent = 1;
  static constexpr uint8_t kWritable = 2;
  static constexpr uint8_t kContent = 4;

  struct Frame {
    std::atomic<uint8_t> state{0};
    std::atomic<bool> busy{false};
    std::atomic<uint64_t> wakes{0};
  };

  void Unpin(bool for_map) override;
  uint64_t IndexOf(Gfn gfn) const { return gfn - options_.range.start; }
  Frame& FrameAt(Gfn gfn) { return frames_[IndexOf(gfn)]; }
  const Frame& FrameAt(Gfn gfn) const { return frames_[IndexOf(gfn)]; }
  // Runs a host call: `change` is applied frame by frame and returns an errno.
  HostCallResult Run(HostCallKind kind, GfnRange run,
                     const std::function<int(Frame&)>& change);

  FakeHost& host_;
  const FakeSlotOptions options_;
  const Pfn base_pfn_;
  const std::unique_ptr<Frame[]> frames_;
  std::optional<std::pair<Gfn, absl::Status>> bad_content_;

  std::atomic<bool> tracks_writes_{false};
  Mutex written_mutex_;
  std::set<uint64_t> written_ ABSL_GUARDED_BY(written_mutex_);

  PinCount map_pins_;
  PinCount unmap_pins_;
  std::atomic<bool> gone_{false};

  std::atomic<int> sleepers_{0};
  Mutex sleep_mutex_;
  CondVar woken_;
};

class FakeBackingTable final : public BackingTable {
 public:
  // REQUIRES: no other thread uses the table yet; no overlap.
  FakeBacking& Add(const FakeSlotOptions& options);

  PinResult Pin(Gfn gfn, PinMode mode) override;
  bool NextBacked(Gfn gfn, Gfn* next) override;

  // Null if no memslot holds the frame.
  FakeBacking* Find(Gfn gfn) const;
  const std::vector<std::unique_ptr<FakeBacking>>& slots() const {
    return slots_;
  }
  FakeHost& host() { return host_; }

 private:
  FakeHost host_;
  std::vector<std::unique_ptr<FakeBacking>> slots_;  // ascending
  uint64_t next_pfn_block_ = 1;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_FAKE_BACKING_H_
