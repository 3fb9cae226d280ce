// The bytes of a memslot: loading, reading, writing and discarding them.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/memory/memslot.h"

namespace tdp {
namespace {

using State = ContentMap::State;
using Want = ContentMap::Want;

// Frames that are claimed at a time, so that nobody waits for long.
constexpr uint64_t kClaimFrames = 512;

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

absl::Status Memslot::HostMemoryError(uint64_t index, int error) const {
  const Gfn gfn = GfnAt(index);
  return MakeError(
      ErrorReason::kHostMemoryExhausted,
      absl::StrCat("the host has no memory left for frame ", Hex(gfn.value()),
                   " of memslot \"", name_, "\": ", strerror(error), " (errno ",
                   error, "); free memory on the host or discard frames"),
      {{"gfn", Hex(gfn.value())},
       {"memslot", name_},
       {"errno", absl::StrCat(error)},
       {"cause", strerror(error)}});
}

GfnRange Memslot::ReadyAround(Gfn gfn, GfnRange window) {
  const auto ready = [&](Gfn at) {
    const uint64_t frame = IndexOf(at);
    return content_->Look(frame, frame + 1).state == State::kReady;
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
  const uint64_t frame = IndexOf(gfn);
  if (content_->Look(frame, frame + 1).state == State::kReady) return true;
  if (content_->IsClaimed(frame)) return false;
  bool discarded = false;
  discarded_->Prefix(frame, frame + 1, &discarded);
  return discarded || source_->IsCached(*calls_, frame << kPageShift);
}

absl::Status Memslot::LoadContent(GfnRange run) {
  const absl::Status run_status = CheckRun(run);
  if (!run_status.ok()) return run_status;
  uint64_t first = IndexOf(run.start);
  const uint64_t end = first + run.size();
  while (first < end) {
    const ContentMap::Piece piece = content_->Take(
        first, std::min(end, first + kClaimFrames), Want::kMissing);
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
                           uint64_t* filled_frames) {
  *filled_frames = 0;
  const int error = memory_->Allocate(first, count);
  if (error != 0) return HostMemoryError(first, error);
  if (source_.has_value()) {
    size_t done_bytes = 0;
    const absl::Status status = ReadInitial(
        first << kPageShift, memory_->Alias(first, count), &done_bytes);
    if (!status.ok()) {
      *filled_frames = done_bytes >> kPageShift;
      // Keeps the rest free of half a content; a failure to do so changes
      // nothing, because the next load writes every byte.
      memory_->PunchHole(first + *filled_frames, count - *filled_frames);
      return status;
    }
  }
  *filled_frames = count;
  return absl::OkStatus();
}

absl::Status Memslot::ReadInitial(uint64_t offset, absl::Span<char> bytes,
                                  size_t* done_bytes) {
  *done_bytes = 0;
  while (*done_bytes < bytes.size()) {
    const uint64_t position = offset + *done_bytes;
    uint64_t size = bytes.size() - *done_bytes;
    bool zero = true;
    if (discarded_.has_value()) {
      const uint64_t first = position >> kPageShift;
      const uint64_t end = ((position + size - 1) >> kPageShift) + 1;
      const uint64_t frames = discarded_->Prefix(first, end, &zero);
      size = std::min(size, ((first + frames) << kPageShift) - position);
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
    const uint64_t first = offset >> kPageShift;
    const uint64_t end = ((offset + bytes.size() - 1) >> kPageShift) + 1;
    // A frame that becomes ready after this look held its initial content when
    // the look was made, so the answer is right for that moment.
    const ContentMap::Piece piece = content_->Look(first, end);
    const uint64_t size = std::min<uint64_t>(
        bytes.size(), ((first + piece.count) << kPageShift) - offset);
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
    const uint64_t first = offset >> kPageShift;
    const uint64_t in_frame = offset & (kPageSize - 1);
    const uint64_t whole =
        in_frame == 0 ? bytes.size() >> kPageShift : uint64_t{0};
    const ContentMap::Piece piece = content_->Take(
        first, first + std::clamp<uint64_t>(whole, 1, kClaimFrames),
        Want::kAll);
    const uint64_t size = std::min<uint64_t>(
        bytes.size(), (piece.count << kPageShift) - in_frame);
    const absl::Status status =
        WriteClaimed(offset, bytes.first(size), piece.state);
    if (!status.ok()) return status;
    dirty_log_.Mark(first, ((offset + size - 1) >> kPageShift) + 1);
    offset += size;
    *written_bytes += size;
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

absl::Status Memslot::WriteClaimed(uint64_t offset,
                                   absl::Span<const char> bytes,
                                   ContentMap::State state) {
  const uint64_t first = offset >> kPageShift;
  const uint64_t end = ((offset + bytes.size() - 1) >> kPageShift) + 1;
  if (state == State::kMissing) {
    absl::Status status;
    if (bytes.size() == (end - first) << kPageShift) {
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
  if (state == State::kMissing) memory_->PunchHole(first, end - first);
  content_->Finish(first, end, state);
  dirty_log_.Mark(first, end);  // a part of it may be written
  return HostMemoryError(first, error);
}

absl::Status Memslot::DiscardContent(GfnRange run, uint64_t* done_frames,
                                     int64_t* freed_frames) {
  *done_frames = 0;
  *freed_frames = 0;
  const absl::Status run_status = CheckRun(run);
  if (!run_status.ok()) return run_status;
  uint64_t first = IndexOf(run.start);
  const uint64_t last = first + run.size();
  while (first < last) {
    const ContentMap::Piece piece =
        content_->Take(first, std::min(last, first + kClaimFrames), Want::kAll);
    const uint64_t end = first + piece.count;
    if (discarded_.has_value()) discarded_->Set(first, end);
    if (piece.state == State::kReady) {
      // Whoever still sees the frames ready reads zero, or finds no page to
      // map.
      const int error = memory_->PunchHole(first, piece.count);
      if (error != 0) {
        content_->Finish(first, end, State::kReady);
        dirty_log_.Mark(first, end);  // a part of them may be gone
        return HostCallError("fallocate(FALLOC_FL_PUNCH_HOLE)", error);
      }
      *freed_frames += static_cast<int64_t>(piece.count);
    }
    content_->Finish(first, end, State::kMissing);
    dirty_log_.Mark(first, end);
    *done_frames += piece.count;
    first = end;
  }
  return absl::OkStatus();
}

}  // namespace tdp
