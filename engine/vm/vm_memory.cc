// The bytes of guest memory, behind the guest's back.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/mmu/host_pages.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

absl::Status MovingError(Gpa gpa) {
  return MakeError(
      ErrorReason::kOperationConflict,
      absl::StrCat("the memslot that holds address ", Hex(gpa.value()),
                   " is being moved or deleted; try again when "
                   "that has ended"),
      {{"gpa", Hex(gpa.value())}});
}

absl::Status WithWrittenBytes(const absl::Status& status, uint64_t written) {
  ErrorDetail detail = DetailOf(status).value_or(ErrorDetail{});
  detail.metadata.emplace_back("writtenBytes", absl::StrCat(written));
  return MakeError(detail.reason, status.message(), std::move(detail.metadata));
}

}  // namespace

absl::Status VmImpl::CheckBacked(Gpa gpa, uint64_t size) const {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (gpa.value() + size < size) {
    return FieldError(
        "gpa", Hex(gpa.value()),
        absl::StrCat("such that ", size, " bytes from it end below 2^64"));
  }
  Gfn gfn = GfnOf(gpa);
  const uint64_t end = gpa.value() + size;
  while (size != 0 && GpaOf(gfn).value() < end) {
    const std::shared_ptr<Memslot> memslot = memslots_.Find(gfn);
    if (memslot == nullptr) return GfnNotBackedError(gfn);
    gfn = memslot->range().end;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> VmImpl::ReadMemory(Gpa gpa, uint64_t size) {
  if (absl::Status s = CheckBacked(gpa, size); !s.ok()) return s;
  std::string bytes(size, '\0');
  for (uint64_t done = 0; done < size;) {
    const Gpa at = gpa + done;
    const PinResult found = memslots_.Pin(GfnOf(at), PinMode::kUnmap);
    if (!found.pin) {
      return found.changing ? MovingError(at) : GfnNotBackedError(GfnOf(at));
    }
    auto& memslot = static_cast<Memslot&>(*found.pin);
    const uint64_t count =
        std::min(size - done, GpaOf(memslot.range().end) - at);
    if (absl::Status s =
            memslot.ReadBytes(at, absl::MakeSpan(bytes).subspan(done, count));
        !s.ok()) {
      return s;
    }
    done += count;
  }
  return bytes;
}

absl::Status VmImpl::WriteMemory(Gpa gpa, absl::string_view data) {
  if (absl::Status s = CheckUsable("be written to"); !s.ok()) return s;
  if (absl::Status s = CheckBacked(gpa, data.size()); !s.ok()) {
    return WithWrittenBytes(s, 0);
  }
  for (uint64_t done = 0; done < data.size();) {
    const Gpa at = gpa + done;
    const PinResult found = memslots_.Pin(GfnOf(at), PinMode::kUnmap);
    if (!found.pin) {
      return WithWrittenBytes(
          found.changing ? MovingError(at) : GfnNotBackedError(GfnOf(at)),
          done);
    }
    auto& memslot = static_cast<Memslot&>(*found.pin);
    const uint64_t count =
        std::min<uint64_t>(data.size() - done, GpaOf(memslot.range().end) - at);
    uint64_t written = 0;
    const absl::Status s = memslot.WriteBytes(
        at, absl::MakeConstSpan(data.data() + done, count), &written);
    done += written;
    if (!s.ok()) return WithWrittenBytes(s, done);
  }
  return absl::OkStatus();
}

// Frames discarded at once. Their table entries go first, so that the guest
// sees the old bytes or zero.
constexpr uint64_t kDiscardFrames = 16 * FramesPerEntry(PageLevel::k2M);

absl::StatusOr<DiscardResult> VmImpl::DiscardRange(GfnRange range,
                                                   const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("discard frames"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s =
          CheckBacked(GpaOf(range.start), range.size() << kPageShift);
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckHostPages(memslots_, range); !s.ok()) return s;
  const BudgetCheck stop(budget);
  DiscardResult result{.next_gfn = range.start};
  while (result.next_gfn < range.end) {
    const Gfn gfn = result.next_gfn;
    const absl::Status status =
        DiscardPiece({gfn, std::min(range.end, gfn + kDiscardFrames)}, result);
    if (!status.ok()) {
      // An error after progress is for the next call, which begins there.
      if (result.next_gfn == range.start) return status;
      break;
    }
    if (stop()) break;
  }
  return result;
}

absl::Status VmImpl::DiscardPiece(GfnRange piece, DiscardResult& result) {
  const PinResult found = memslots_.Pin(piece.start, PinMode::kUnmap);
  if (!found.pin) {
    return found.changing ? MovingError(GpaOf(piece.start))
                          : GfnNotBackedError(piece.start);
  }
  auto& memslot = static_cast<Memslot&>(*found.pin);
  piece = piece.Intersect(memslot.range());
  // Again: it may be another memslot by now.
  if (absl::Status s = CheckHostPages(memslot, piece); !s.ok()) return s;
  const MmuProgress zapped = mmu_->ZapRange(piece, [] { return false; });
  if (!zapped.status.ok()) return zapped.status;
  uint64_t done_frames = 0;
  int64_t freed_frames = 0;
  const absl::Status status =
      memslot.DiscardContent(piece, &done_frames, &freed_frames);
  result.next_gfn = piece.start + done_frames;
  result.freed_bytes += freed_frames * static_cast<int64_t>(kPageSize);
  return status;
}

}  // namespace tdp
