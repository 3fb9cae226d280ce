// Memslot: a contiguous piece of guest physical memory, the window through
// which the guest sees it, and the host calls that decide what of it is mapped
// there.
//
// Everything that the window maps is put there by Map(), one frame at a time as
// the page tables say; whatever else is touched faults into the memslot's own
// userfaultfd. ReadFaults() tells of these faults. An event that is read must
// be answered, by Wake() after the entry has got its final value, or by
// Refuse().
//
// Life: Create() registers the window before anybody sees it. To change or
// remove a memslot: CloseForMap(), zap its entries, take it out of KVM, then
// MemslotTable::Move() or Remove(). To destroy it, nobody may sleep in the
// window any more: closing the userfaultfd would let the access happen.
//
// Invariants: content comes before the mapping. A frame is in the window only
// while its page is in the memfd.
//
// Thread safety: all methods, from any thread, where they do not say otherwise.
// The methods that name frames need a pin, or the word of the caller's own lock
// that the memslot does not move meanwhile.

#ifndef ENGINE_MEMORY_MEMSLOT_H_
#define ENGINE_MEMORY_MEMSLOT_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/memory/content_map.h"
#include "engine/memory/dirty_log.h"
#include "engine/memory/file_source.h"
#include "engine/memory/guest_memory.h"
#include "engine/memory/host_calls.h"
#include "engine/memory/idle_ages.h"
#include "engine/memory/userfaultfd.h"
#include "engine/sync/mutex.h"
#include "engine/sync/pin_count.h"

namespace tdp {

struct MemslotOptions {
  std::string name;  // for messages and /proc/PID/maps
  GfnRange range;
  // Of range.start; from a PfnAllocator.
  Pfn base_pfn;
  bool read_only = false;
  PageLevel max_fault_level = PageLevel::k4K;
  // k4K, or k2M: then all pages are allocated at creation, and stay until they
  // are discarded.
  PageLevel host_page_level = PageLevel::k4K;
  // Where the content comes from; zero if there is none.
  std::optional<FileSource> source;
  // The kernel notes which frames of the window are written, instead of holding
  // writes to read-only frames back.
  bool notes_writes = false;
  UserfaultfdOptions userfaultfd;
  // Tests put their own here; it outlives the memslot.
  HostCalls* host_calls = nullptr;
};

// A thread sleeps because it touched a frame that the window does not grant.
struct FaultEvent {
  // The frame, counted from the start of the memslot. `gfn` is where it lay
  // when the event was read: the memslot may have moved since.
  uint64_t index = 0;
  Gfn gfn;
  bool write = false;
  bool write_protect = false;  // the frame is mapped, but write-protected
  bool minor = false;          // the frame has its page already
  pid_t thread = 0;
};

class Memslot final : public Backing {
 public:
  // REQUIRES: a non-empty range of whole host pages; base_pfn congruent to its
  // start modulo 2^18.
  static absl::StatusOr<std::shared_ptr<Memslot>> Create(
      MemslotOptions options);
  Memslot(const Memslot&) = delete;
  Memslot& operator=(const Memslot&) = delete;
  // REQUIRES: no pins, no thread that sleeps in the window, not in KVM.
  ~Memslot() override;

  const std::string& name() const { return name_; }
  Hva window_hva() const { return memory_->window(); }
  uint64_t size_bytes() const { return memory_->size_bytes(); }
  bool has_source() const { return source_.has_value(); }
  // Memory that the host holds for the content.
  absl::StatusOr<int64_t> AllocatedBytes() const {
    return memory_->AllocatedBytes();
  }

  // Backing.
  GfnRange range() const override;
  Pfn base_pfn() const override;
  bool writable() const override;
  bool tracks_writes() const override { return dirty_log_.tracks(); }
  bool write_protects() const override { return !notes_writes_; }
  PageLevel max_fault_level() const override { return max_fault_level_; }
  PageLevel host_page_level() const override { return memory_->page_level(); }
  int fault_around() const override {
    // Relaxed: a matter of speed.
    return fault_around_.load(std::memory_order_relaxed);
  }
  GfnRange ReadyAround(Gfn gfn, GfnRange window) override;
  absl::Status LoadContent(GfnRange run) override;
  // Whether LoadContent() of the frame would not wait for a disk.
  bool LoadsQuickly(Gfn gfn) const;
  HostCallResult Map(GfnRange run, HostProtection protection) override;
  // On failure, part of the run may be gone from the window: the host is never
  // looser than before.
  HostCallResult Unmap(GfnRange run) override;
  // On failure, part of the run may have the new protection. Who granted
  // writing and failed zaps the run.
  HostCallResult Protect(GfnRange run, HostProtection protection) override;
  void NoteWritten(Gfn gfn) override;
  void Wake(GfnRange run) override;
  absl::Status Inspect(GfnRange run, absl::Span<HostFrame> frames) override;

  // The daemon's own access to the bytes, behind the guest's back.
  //
  // Reads without allocating: frames without content read as what they would
  // be loaded with.
  absl::Status ReadBytes(Gpa gpa, absl::Span<char> bytes);
  // Loads a frame that is written in part. If it fails, the first
  // `*written_bytes` are in memory. What was written is in the dirty log.
  absl::Status WriteBytes(Gpa gpa, absl::Span<const char> bytes,
                          uint64_t* written_bytes);
  // Gives the memory back; the frames read as zero from now on, whatever the
  // source holds. REQUIRES: zapped; who maps meanwhile gets EFAULT from Map()
  // and loads again. Whole host pages.
  // On failure the first `*done_frames` are discarded. `*freed_frames` is how
  // many the host freed.
  absl::Status DiscardContent(GfnRange run, uint64_t* done_frames,
                              int64_t* freed_frames);

  // Gives 2M pages back to their pool now, and not when the last reference
  // goes: the next memslot may need them. REQUIRES: out of the MemslotTable.
  void GiveBackPages();

  // Faults.
  //
  // Reads up to events.size() events without waiting.
  absl::StatusOr<size_t> ReadFaults(absl::Span<FaultEvent> events);
  // Readable when there are events.
  int uffd() const { return userfaultfd_.fd(); }

  // Ejection: makes accesses to a frame fail, so that threads that sleep on it
  // leave the kernel without having done the access, and wakes them. So do
  // those to the rest of its host page, or to some 2M pages around. Each call
  // needs one Admit(). What the window maps stays as it is.
  absl::Status Refuse(Gfn gfn);
  absl::Status Admit(Gfn gfn);
  // Host pages that are refused.
  int64_t RefusedCount() const;

  // Puts into `words` which frames were written since the last call, lowest bit
  // first, and begins anew. A frame that is unmapped is marked in the dirty log
  // at once. REQUIRES: `notes_writes`.
  absl::Status TakeWritten(absl::Span<uint64_t> words);

  // Pins. Callers get them from MemslotTable, which keeps the memslot alive.
  bool TryPin(PinMode mode);

  // Refuses new map pins and waits for the present ones, so that no entry of
  // the memslot is installed any more. The caller holds no pin and nothing that
  // the holder of one may wait for.
  void CloseForMap() { map_pins_.CloseAndDrain(); }
  void ReopenForMap() { map_pins_.Reopen(); }
  bool closed_for_map() const { return map_pins_.closed(); }

  // Which frames were written. The frames of a discard count: their bytes have
  // changed.
  DirtyLog& dirty_log() { return dirty_log_; }

  // How long its frames have been idle, while somebody wants to know.
  IdleAges& idle_ages() { return idle_ages_; }

  // REQUIRES: closed for map, no entry of the memslot in any table.
  void set_read_only(bool read_only);

  // Whether a touch of an unmapped frame waits for a client. Looked at by who
  // answers faults; nothing here depends on it.
  bool faults_wait() const {
    return faults_wait_.load(std::memory_order_acquire);
  }
  void set_fault_around(int frames) {
    fault_around_.store(frames, std::memory_order_relaxed);
  }
  void set_faults_wait(bool wait) {
    faults_wait_.store(wait, std::memory_order_release);
  }

 private:
  friend class MemslotTable;

  Memslot(MemslotOptions options, std::unique_ptr<GuestMemory> memory,
          std::unique_ptr<ContentMap> content,
          std::optional<LazyBitmap> discarded, Userfaultfd userfaultfd,
          std::unique_ptr<HostCalls> own_calls, HostCalls* calls);

  void Unpin(bool for_map) override;

  // Refuses new unmap pins and waits for the present ones. For MemslotTable.
  void CloseForUnmap() { unmap_pins_.CloseAndDrain(); }
  void ReopenForUnmap() { unmap_pins_.Reopen(); }
  bool closed_for_unmap() const { return unmap_pins_.closed(); }
  // REQUIRES: closed for map and for unmap.
  void Rebase(Gfn base_gfn, Pfn base_pfn);

  // Frames counted from the start of the memslot.
  uint64_t IndexOf(Gfn gfn) const { return gfn - range().start; }
  // Host pages counted likewise. Content comes and goes by host page.
  struct Pages {
    uint64_t first;
    uint64_t end;
  };
  int page_shift() const { return memory_->page_shift(); }
  uint64_t page_bytes() const { return uint64_t{1} << page_shift(); }
  uint64_t FramesOf(uint64_t pages) const {
    return pages << (page_shift() - kPageShift);
  }
  Pages PagesOf(uint64_t offset, uint64_t bytes) const {
    return {offset >> page_shift(), ((offset + bytes - 1) >> page_shift()) + 1};
  }
  Pages PagesOf(GfnRange run) const {
    return PagesOf(IndexOf(run.start) << kPageShift, run.size() << kPageShift);
  }
  Hva HvaOf(Gfn gfn) const;
  absl::Status CheckRun(GfnRange run) const;
  absl::Status CheckBytes(Gpa gpa, uint64_t size) const;

  // Gives claimed pages their memory and bytes. On failure the first
  // `*filled_pages` have theirs and the others are missing.
  absl::Status Fill(uint64_t first, uint64_t count, uint64_t* filled_pages);
  absl::Status FillAndFinish(uint64_t first, uint64_t count);
  // Takes back pages that did not get their bytes.
  void Unfill(uint64_t first, uint64_t count);
  // Bytes that pages without content would be loaded with.
  absl::Status ReadInitial(uint64_t offset, absl::Span<char> bytes,
                           size_t* done_bytes);
  // Writes to pages that the caller has claimed in `state`, and ends the claim.
  // `bytes` fills whole pages or lies inside one.
  absl::Status WriteClaimed(uint64_t offset, absl::Span<const char> bytes,
                            ContentMap::State state);
  absl::Status HostMemoryError(uint64_t page, int error) const;

  // UFFDIO_WRITEPROTECT without waking, tried again where the kernel asks.
  int SetProtection(Hva start, uint64_t bytes, HostProtection protection);
  // Pages that are refused together. Mappings of 2M pages stay cut where they
  // were cut once, so these are cut in a bounded number of places.
  uint64_t pages_per_granule() const;
  uint64_t GranuleOf(Gfn gfn) const {
    return PagesOf({gfn, gfn + 1}).first / pages_per_granule();
  }
  int SetAccess(uint64_t granule, int protection);

  const std::string name_;
  const PageLevel max_fault_level_;
  const bool notes_writes_;
  const std::unique_ptr<HostCalls> own_calls_;  // null if a test gave its own
  HostCalls* const calls_;
  const std::unique_ptr<GuestMemory> memory_;
  const std::unique_ptr<ContentMap> content_;
  const std::optional<FileSource> source_;
  // With a source, or pages of 2M: pages that were discarded, so that their
  // content is zero. Changed under a claim only.
  const std::optional<LazyBitmap> discarded_;
  // Closed before the window goes.
  const Userfaultfd userfaultfd_;
  const uint64_t frame_count_;

  // Change only while both kinds of pins are closed. Atomic, because a pager
  // reads events without a pin.
  std::atomic<uint64_t> base_gfn_;
  std::atomic<uint64_t> base_pfn_;
  std::atomic<bool> read_only_;
  std::atomic<bool> faults_wait_{false};
  std::atomic<int> fault_around_{1};
  DirtyLog dirty_log_;
  IdleAges idle_ages_;

  PinCount map_pins_;
  PinCount unmap_pins_;

  mutable Mutex refused_mutex_;
  // By page: how often it is refused.
  absl::flat_hash_map<uint64_t, int> refused_ ABSL_GUARDED_BY(refused_mutex_);
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_MEMSLOT_H_
