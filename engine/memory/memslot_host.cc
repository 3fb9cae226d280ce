// The host calls of a memslot: what the window maps.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/memory/memslot.h"
#include "engine/memory/pagemap_scan.h"
#include "engine/memory/scoped_fd.h"

namespace tdp {
namespace {

// How often a call that the kernel asks to repeat is repeated.
constexpr int kMaxRetries = 100;

// Bits of an entry of /proc/PID/pagemap.
constexpr uint64_t kPagemapPresent = uint64_t{1} << 63;
constexpr uint64_t kPagemapWriteProtected = uint64_t{1} << 57;
// As many as are read at once.
constexpr uint64_t kPagemapEntries = 512;

// Repeats `call` while it answers EAGAIN or EINTR, with a bound.
template <typename Call>
int Retry(Call call) {
  for (int tries = 0;; ++tries) {
    const int error = call();
    if ((error != EAGAIN && error != EINTR) || tries == kMaxRetries) {
      return error;
    }
    sched_yield();
  }
}

}  // namespace

HostCallResult Memslot::Map(GfnRange run, HostProtection protection) {
  assert(range().Contains(run));
  const uint64_t page_frames = FramesOf(1);
  const uint64_t total = run.size();
  assert(IsAligned(run.start.value(), host_page_level()));
  assert(IsAligned(total, host_page_level()));
  assert(write_protects() || protection == HostProtection::kReadWrite);
  // What is protected asynchronously can be written: the first write is noted.
  const bool protects = write_protects()
                            ? protection == HostProtection::kReadOnly
                            : dirty_log_.on();
  const uint64_t mode = UFFDIO_CONTINUE_MODE_DONTWAKE |
                        (protects ? kContinueModeWriteProtect : 0);
  uint64_t done = 0;
  uint64_t step = total;
  int retries = 0;
  while (done < total) {
    const Hva start = HvaOf(run.start + done);
    step = std::min(step, total - done);
    const ContinueResult result =
        calls_->Continue(userfaultfd_, start, step << kPageShift, mode);
    if (result.error == 0) {
      done += step;
      step *= 2;
      continue;
    }
    if (result.mapped >= static_cast<int64_t>(page_bytes())) {
      // The first part is mapped; the next call says what stopped it.
      done +=
          std::min(step, static_cast<uint64_t>(result.mapped) >> kPageShift);
      continue;
    }
    const int error =
        result.mapped < 0 ? static_cast<int>(-result.mapped) : result.error;
    if (error == EEXIST) {
      const int protect_error =
          write_protects() ? SetProtection(start, page_bytes(), protection) : 0;
      if (protect_error != 0) return {done, protect_error};
      done += page_frames;
    } else if (error == ENOENT && step > page_frames) {
      // A refused page cuts the window's mapping in two, and one call cannot
      // cross such a border.
      step = std::max(page_frames, step / 2 / page_frames * page_frames);
    } else if ((error == EAGAIN || error == EINTR) && retries < kMaxRetries) {
      ++retries;
      sched_yield();
    } else {
      return {done, error};
    }
  }
  return {done, 0};
}

HostCallResult Memslot::Unmap(GfnRange run) {
  assert(range().Contains(run));
  // With the mapping goes what the kernel has noted of it. Marked before, for
  // who reads the log while this goes on; and after, for a write that came
  // behind that reader's clear.
  const bool forgets = !write_protects() && dirty_log_.on();
  const uint64_t first = IndexOf(run.start);
  if (forgets) dirty_log_.Mark(first, first + run.size());
  const int error = Retry([&] {
    return calls_->Madvise(HvaOf(run.start), run.size() << kPageShift,
                           MADV_DONTNEED);
  });
  // Asked anew: a log that was switched on meanwhile has seen the run mapped.
  if (!write_protects() && dirty_log_.on()) {
    dirty_log_.Mark(first, first + run.size());
  }
  return {error == 0 ? run.size() : 0, error};
}

HostCallResult Memslot::Protect(GfnRange run, HostProtection protection) {
  assert(range().Contains(run));
  const int error =
      SetProtection(HvaOf(run.start), run.size() << kPageShift, protection);
  return {error == 0 ? run.size() : 0, error};
}

int Memslot::SetProtection(Hva start, uint64_t bytes,
                           HostProtection protection) {
  // Write-protecting wakes nobody, and refuses to be told so.
  const uint64_t mode = protection == HostProtection::kReadOnly
                            ? UFFDIO_WRITEPROTECT_MODE_WP
                            : UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
  return Retry(
      [&] { return calls_->WriteProtect(userfaultfd_, start, bytes, mode); });
}

absl::Status Memslot::TakeWritten(absl::Span<uint64_t> words) {
  std::fill(words.begin(), words.end(), 0);
  return ScanWritten(memory_->window(), size_bytes(),
                     [&](uint64_t first, uint64_t end) {
                       for (uint64_t frame = first; frame < end; ++frame) {
                         words[frame / 64] |= uint64_t{1} << frame % 64;
                       }
                     });
}

void Memslot::NoteWritten(Gfn gfn) {
  if (!dirty_log_.tracks()) return;
  const GfnRange page = HostPageOf(*this, gfn);
  dirty_log_.Mark(IndexOf(page.start), IndexOf(page.end));
}

void Memslot::Wake(GfnRange run) {
  // Who waits for a frame waits for its page. The call can only fail for a
  // range that nobody can sleep in.
  const Pages pages = PagesOf(run);
  userfaultfd_.Wake(memory_->window() + (pages.first << page_shift()),
                    (pages.end - pages.first) << page_shift());
}

absl::Status Memslot::Inspect(GfnRange run, absl::Span<HostFrame> frames) {
  const absl::Status run_status = CheckRun(run);
  if (!run_status.ok()) return run_status;
  assert(frames.size() == run.size());
  const ScopedFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (pagemap.get() < 0) return HostCallError("open(pagemap)", errno);
  uint64_t entries[kPagemapEntries];
  const uint64_t first_page = HvaOf(run.start).value() >> kPageShift;
  for (uint64_t done = 0; done < run.size();) {
    const uint64_t count = std::min(run.size() - done, kPagemapEntries);
    size_t read_bytes = 0;
    const int error =
        ReadFully(*calls_, pagemap.get(), entries, count * sizeof(entries[0]),
                  (first_page + done) * sizeof(entries[0]), &read_bytes);
    if (error != 0) return HostCallError("pread(pagemap)", error);
    if (read_bytes != count * sizeof(entries[0])) {
      return InternalError("pread(pagemap) ended early");
    }
    for (uint64_t i = 0; i < count; ++i) {
      HostFrame& frame = frames[done + i];
      frame.present = (entries[i] & kPagemapPresent) != 0;
      frame.writable =
          frame.present &&
          (!write_protects() || (entries[i] & kPagemapWriteProtected) == 0);
    }
    done += count;
  }
  return absl::OkStatus();
}

}  // namespace tdp
