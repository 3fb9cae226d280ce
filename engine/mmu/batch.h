// TdpMmu::Batch: several operations as one change of the tables.
//
//   prepare: pins, content, tables, splits         holding nothing
//   freeze what is to change, part after part      mmu_lock for reading
//   freeze what came into the gaps; new limits     mmu_lock for writing
//   host calls: what takes away, then what grants  holding nothing
//   final values, all of them
//
// No entry gets a final value before all are frozen: who has read a new value
// reads no old one afterwards. Nearly all is
// frozen in short holds for reading, so that the hold for writing, which stops
// every other change, is short as well.
//
// Internal to engine/mmu. Thread safety: belongs to one thread.

#ifndef ENGINE_MMU_BATCH_H_
#define ENGINE_MMU_BATCH_H_

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {

enum class BatchStep { kUnmap, kReadOnly, kNone, kMap, kMapReadOnly, kGrant };

constexpr bool Grants(BatchStep step) { return step >= BatchStep::kMap; }

struct BatchChange {
  Spte target;
  BatchStep step;
};

class TdpMmu::Batch {
 public:
  Batch(TdpMmu& mmu, absl::Span<const MmuOperation> operations)
      : mmu_(mmu), operations_(operations) {}

  BatchOutcome Run();

 private:
  // A part of an operation in one Backing.
  struct Piece {
    const MmuOperation* operation;
    GfnRange range;
    BackingPin pin;
    LeafSource source;
    bool tracks_writes = false;
    size_t first_seen = 0;  // of its frames in seen_
  };
  struct Entry {
    SptePtr location;
    Gfn gfn;
    PageLevel level = PageLevel::k4K;
    BatchStep step = BatchStep::kNone;
    Spte old;
    Spte target;
    Backing* backing = nullptr;
    bool called = false;  // its host call was tried

    GfnRange range() const { return {gfn, gfn + FramesPerEntry(level)}; }
  };
  // Frames of a piece in which there was nothing to change.
  struct Gap {
    const Piece* piece = nullptr;
    GfnRange range;
  };

  absl::Status Prepare();
  absl::Status PinPieces();
  absl::Status PreparePiece(const Piece& piece);
  // False if others are in the way: then what was frozen is to be unfrozen.
  bool FreezeParts();
  bool Settle(std::unique_ptr<AccessLimits::List>& limits)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mmu_.limits_.change_mutex());
  // Null `gaps`: they are settled, and nobody installs meanwhile.
  bool FreezePart(const TdpRoot& root, const Piece& piece, GfnRange part,
                  std::vector<Gap>* gaps);
  bool FreezeEntry(const Piece& piece, SptePtr location,
                   const WalkedEntry& entry, GfnRange part,
                   std::vector<Gap>* gaps);
  static void AddGap(const Piece& piece, GfnRange range,
                     std::vector<Gap>& gaps);
  // Whether the frame was in a leaf of `min_level` or above that was split.
  bool WasSplitFrom(Gfn gfn, PageLevel min_level) const;
  std::optional<BatchChange> Plan(const Piece& piece, Spte old, Gfn gfn,
                                  PageLevel level) const;
  // Makes the host calls of the entries that grant, or of those that do not.
  // Returns the errno, and in `failed` the entry whose call it was.
  int MakeHostCalls(bool granting, size_t* failed);
  static HostCallResult Call(const Entry& entry, GfnRange run);
  static absl::Status ErrorOf(const Entry& entry, int error);
  // After a failure: every entry is to get its old value.
  void TakeBack();
  void WriteTargets();
  void Unfreeze();
  void WakeAll();

  TdpMmu& mmu_;
  const absl::Span<const MmuOperation> operations_;
  std::vector<Piece> pieces_;
  std::vector<Entry> entries_;
  std::vector<Gap> gaps_;
  // The 4K entries of the pieces as they were when looked at, by frame: a gap
  // is settled under the write lock, and what has not changed is passed by.
  // 0, which no entry is: there was no 4K entry.
  std::vector<uint64_t> seen_;
  int64_t root_id_ = 0;  // the valid root when the first part was frozen
  // Leaves that were split, by first frame and level: for kWriteProtect their
  // parts count as of that level.
  absl::flat_hash_set<std::pair<uint64_t, PageLevel>> split_;
  absl::Time first_frozen_;
};

}  // namespace tdp

#endif  // ENGINE_MMU_BATCH_H_
