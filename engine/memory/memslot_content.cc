// The bytes of a memslot: loading, reading, writing and discarding them.

#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/memory/huge_pages.h"
#include "engine/memory/memslot.h"

namespace tdp {
namespace {

using State = ContentMap::State;
using Want = ContentMap::Want;

// Memory that is claimed at a time, so that nobody waits for long.
constexpr uint64_t kClaimBytes = uint64_t{2} << 20;

}  // namespace

absl::Status Memslot::CheckRun(GfnRange run) const {
  const GfnRange held = range();
  if (!run.empty() && held.Contains(run)) return absl::OkStatus();
  return GfnNotBackedError(held.Contains(run.start) ? held.end : run.start);
}

absl::Status Memslot::CheckBytes(Gpa gpa, uint64_t size) const {
  const GfnRange held = range();
  const Gfn first = GfnOf(gpa);
  if (!held.Contains(first)) return GfnNotBackedError(first);
  const uint64_t room = GpaOf(held.end) - gpa;
  return size <= room ? absl::OkStatus() : GfnNotBackedError(held.end);
}

absl::Status Memslot::HostMemoryError(uint64_t page, int error) const {
  const Gfn gfn = range().start + FramesOf(page);
  const absl::string_view way_out =
      host_page_level() == PageLevel::k4K
          ? "free memory on the host or discard frames"
          : kHugePagePoolFix;
  return MakeError(
      ErrorReason::kHostMemoryExhausted,
      absl::StrCat("the host has no memory left for frame ", Hex(gfn.value()),
                   " of memslot \"", name_, "\": ", strerror(error), " (errno ",
                   error, "); ", way_out),
      {{"gfn", Hex(gfn.value())},
       {"memslot", name_},
       {"errno", absl::StrCat(error)},
       {"cause", strerror(error)}});
}

GfnRange Memslot::ReadyAround(Gfn gfn, GfnRange window) {
  const auto ready = [&](Gfn at) {
    const Pages pages = PagesOf({at, at + 1});
    return content_->Look(pages.first, pages.end).state == State::kReady;
  };
  window = window.Intersect(range());
  GfnRange around = {gfn, gfn + 1};
  while (around.start > window.start && ready(Gfn(around.start.value() - 1))) {
    around.start = Gfn(around.start.value() - 1);
  }
  while (around.end < window.end && ready(around.end)) around.end += 1;
  return around;
}

bool Memslot::LoadsQuickly(Gfn gfn) const {
  if (!source_.has_value()) return true;
  const auto [page, end] = PagesOf({gfn, gfn + 1});
  if (content_->Look(page, end).state == State::kReady) return true;
  if (content_->IsClaimed(page)) return false;
  bool discarded = false;
  discarded_->Prefix(page, end, &discarded);
  if (discarded || host_page_level() > PageLevel::k4K) return discarded;
  return source_->IsCached(*calls_, page << page_shift());
}

absl::Status Memslot::LoadContent(GfnRange run) {
  const absl::Status run_status = CheckRun(run);
  if (!run_status.ok()) return run_status;
  const uint64_t claim_pages = kClaimBytes >> page_shift();
  auto [first, end] = PagesOf(run);
  while (first < end) {
    const ContentMap::Piece piece = content_->Take(
        first, std::min(end, first + claim_pages), Want::kMissing);
    if (piece.claimed) {
      const absl::Status status = FillAndFinish(first, piece.count);
      if (!status.ok()) return status;
    }
    first += piece.count;
  }
  return absl::OkStatus();
}

absl::Status Memslot::FillAndFinish(uint64_t first, uint64_t count) {
  uint64_t filled = 0;
  const absl::Status status = Fill(first, count, &filled);
  content_->Finish(first, first + filled, State::kReady);
  content_->Finish(first + filled, first + count, State::kMissing);
  return status;
}

absl::Status Memslot::Fill(uint64_t first, uint64_t count,
                           uint64_t* filled_pages) {
  *filled_pages = 0;
  const int error = memory_->Allocate(first, count);
  if (error != 0) return HostMemoryError(first, error);
  if (source_.has_value()) {
    size_t done_bytes = 0;
    const absl::Status status = ReadInitial(
        first << page_shift(), memory_->Alias(first, count), &done_bytes);
    if (!status.ok()) {
      *filled_pages = done_bytes >> page_shift();
      Unfill(first + *filled_pages, count - *filled_pages);
      return status;
    }
  }
  *filled_pages = count;
  return absl::OkStatus();
}

// A failure changes nothing, because the next load writes every byte. Pages of
// the pool stay: others might take them before that.
void Memslot::Unfill(uint64_t first, uint64_t count) {
  if (host_page_level() == PageLevel::k4K) memory_->PunchHole(first, count);
}

absl::Status Memslot::ReadInitial(uint64_t offset, absl::Span<char> bytes,
                                  size_t* done_bytes) {
  *done_bytes = 0;
  while (*done_bytes < bytes.size()) {
    const uint64_t position = offset + *done_bytes;
    uint64_t size = bytes.size() - *done_bytes;
    bool zero = true;
    if (source_.has_value()) {
      const auto [first, end] = PagesOf(position, size);
      const uint64_t pages = discarded_->Prefix(first, end, &zero);
      size = std::min(size, ((first + pages) << page_shift()) - position);
    }
    const absl::Span<char> part = bytes.subspan(*done_bytes, size);
    if (zero) {
      memset(part.data(), 0, part.size());
      *done_bytes += size;
      continue;
    }
    size_t done = 0;
    const absl::Status status = source_->Read(
        *calls_, position, GpaOf(range().start) + position, part, &done);
    *done_bytes += done;
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Memslot::ReadBytes(Gpa gpa, absl::Span<char> bytes) {
  const absl::Status bytes_status = CheckBytes(gpa, bytes.size());
  if (!bytes_status.ok()) return bytes_status;
  uint64_t offset = gpa - GpaOf(range().start);
  while (!bytes.empty()) {
    const auto [first, end] = PagesOf(offset, bytes.size());
    // A page that becomes ready after this look held its initial content when
    // the look was made, so the answer is right for that moment.
    const ContentMap::Piece piece = content_->Look(first, end);
    const uint64_t size = std::min<uint64_t>(
        bytes.size(), ((first + piece.count) << page_shift()) - offset);
    const absl::Span<char> part = bytes.first(size);
    if (piece.state == State::kReady) {
      const int error = memory_->Read(offset, part);
      if (error != 0) return HostCallError("pread(memfd)", error);
    } else {
      size_t done = 0;
      const absl::Status status = ReadInitial(offset, part, &done);
      if (!status.ok()) return status;
    }
    offset += size;
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

absl::Status Memslot::WriteBytes(Gpa gpa, absl::Span<const char> bytes,
                                 uint64_t* written_bytes) {
  *written_bytes = 0;
  const absl::Status bytes_status = CheckBytes(gpa, bytes.size());
  if (!bytes_status.ok()) return bytes_status;
  uint64_t offset = gpa - GpaOf(range().start);
  while (!bytes.empty()) {
    const uint64_t first = offset >> page_shift();
    const uint64_t in_page = offset & (page_bytes() - 1);
    const uint64_t whole =
        in_page == 0 ? bytes.size() >> page_shift() : uint64_t{0};
    const ContentMap::Piece piece = content_->Take(
        first,
        first + std::clamp<uint64_t>(whole, 1, kClaimBytes >> page_shift()),
        Want::kAll);
    const uint64_t size = std::min<uint64_t>(
        bytes.size(), (piece.count << page_shift()) - in_page);
    const absl::Status status =
        WriteClaimed(offset, bytes.first(size), piece.state);
    if (!status.ok()) return status;
    dirty_log_.Mark(offset >> kPageShift,
                    ((offset + size - 1) >> kPageShift) + 1);
    offset += size;
    *written_bytes += size;
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

absl::Status Memslot::WriteClaimed(uint64_t offset,
                                   absl::Span<const char> bytes,
                                   ContentMap::State state) {
  const auto [first, end] = PagesOf(offset, bytes.size());
  if (state == State::kMissing) {
    absl::Status status;
    if (bytes.size() == (end - first) << page_shift()) {
      const int error = memory_->Allocate(first, end - first);
      if (error != 0) status = HostMemoryError(first, error);
    } else {
      uint64_t filled = 0;
      status = Fill(first, end - first, &filled);
    }
    if (!status.ok()) {
      content_->Finish(first, end, State::kMissing);
      return status;
    }
  }
  const int error = memory_->Write(offset, bytes);
  if (error == 0) {
    content_->Finish(first, end, State::kReady);
    return absl::OkStatus();
  }
  if (state == State::kMissing) Unfill(first, end - first);
  content_->Finish(first, end, state);
  // A part of it may be written.
  dirty_log_.Mark(FramesOf(first), FramesOf(end));
  return HostMemoryError(first, error);
}

absl::Status Memslot::DiscardContent(GfnRange run, uint64_t* done_frames,
                                     int64_t* freed_frames) {
  *done_frames = 0;
  *freed_frames = 0;
  const absl::Status run_status = CheckRun(run);
  if (!run_status.ok()) return run_status;
  assert(IsAligned(run.start.value(), host_page_level()));
  assert(IsAligned(run.end.value(), host_page_level()));
  const uint64_t claim_pages = kClaimBytes >> page_shift();
  auto [first, last] = PagesOf(run);
  while (first < last) {
    const ContentMap::Piece piece =
        content_->Take(first, std::min(last, first + claim_pages), Want::kAll);
    const uint64_t end = first + piece.count;
    bool allocated = piece.state == State::kReady;
    if (discarded_.has_value()) {
      // A page of 2M is there from the start; one is claimed at a time.
      bool before = false;
      discarded_->Prefix(first, first + 1, &before);
      allocated |= host_page_level() > PageLevel::k4K && !before;
    }
    if (allocated) {
      // Whoever still sees the pages ready reads zero, or finds none to map.
      const int error = memory_->PunchHole(first, piece.count);
      if (error != 0) {
        content_->Finish(first, end, piece.state);
        // A part of them may be gone.
        dirty_log_.Mark(FramesOf(first), FramesOf(end));
        return HostCallError("fallocate(FALLOC_FL_PUNCH_HOLE)", error);
      }
      *freed_frames += static_cast<int64_t>(FramesOf(piece.count));
    }
    if (discarded_.has_value()) discarded_->Set(first, end);
    content_->Finish(first, end, State::kMissing);
    dirty_log_.Mark(FramesOf(first), FramesOf(end));
    *done_frames += FramesOf(piece.count);
    first = end;
  }
  return absl::OkStatus();
}

}  // namespace tdp
