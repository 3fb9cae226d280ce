// MmuModel: what a TdpMmu over FakeBackings must hold, as a flat map from frame
// to state. Every verb is a loop over frames or leaves; nothing is shared with
// the engine but its plain types.
//
// The invariants of the reference (KVM's TDP MMU), by number, as they are
// checked when the object under test is compared with the model:
// - 1 to 5: headers, one parent, levels, alignment, known kinds of entries and
//   legal bits, by tree_check.h.
// - 6: PFN and HOST_WRITABLE follow from the frame and its memslot alone.
// - 8, 27: split and collapse leave the flat state and the host as they are.
// - 12, 13, 33: leaves and tables counted are those there, none at the end.
// - 15: one root is valid, and which.
// - 20, 22: after a zap no root maps a frame; a zap-all leaves what is newer.
// - 25: aging takes A and the host's mapping, nothing else.
// - 28, 30: each frame of a range is served, and no other changes.
// - 31: whoever agrees with the model twice is idempotent where it is.
// - 34: a map reports what it did and where it stopped.
// They do not apply: 7 (no access-tracked entries), 10 and 14 (no NX huge
// pages), 11 (no MMIO entries), 32 (a VM has one address space here), 35 (no
// mirror roots), 9 and 23 (dirty logs are kept above the tables; D is compared
// like every other bit). 16 to 19, 21, 24, 26 and 29 are about threads: the
// interleaving and race tests check them.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_TESTING_MMU_MODEL_H_
#define ENGINE_TESTING_MMU_MODEL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/base/backing.h"
#include "engine/base/types.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp::testing {

class MmuModel {
 public:
  enum class SlotState {
    kLive,
    kClosed,  // nothing can be mapped
    kGone,    // as if deleted; holds no leaf
  };
  struct Slot {
    GfnRange range;
    bool writable = true;
    PageLevel max_fault_level = PageLevel::k4K;
    SlotState state = SlotState::kLive;
  };
  struct Frame {
    int64_t root = 0;  // the root whose leaf holds the frame; 0: none
    PageLevel level = PageLevel::k4K;  // of the leaf
    bool readable = false;
    bool writable = false;
    bool mmu_writable = false;
    bool accessed = false;
    bool dirty = false;
    Access limit = {.read = true, .write = true};
    HostFrame host;  // what the host maps

    // What the host may map at most.
    bool Grants(bool write) const {
      return root != 0 && accessed && readable && (!write || writable);
    }
  };
  enum class Error { kNone, kNotBacked, kChanging };
  // What a verb is to return.
  struct Result {
    Error error = Error::kNone;
    Gfn next_gfn;
    int64_t changed_frames = 0;
    int64_t changed_entries = 0;
  };
  // A table by the level of its entries and its first frame.
  using Tables = std::set<std::pair<PageLevel, uint64_t>>;

  MmuModel(uint64_t frames, PageLevel root_level)
      : root_level_(root_level), frames_(frames) {
    tables_[valid_root_];
  }

  void AddSlot(const Slot& slot) { slots_.push_back(slot); }
  std::vector<Slot>& slots() { return slots_; }
  // Null if no memslot holds the frame, or one that is gone.
  const Slot* SlotOf(uint64_t gfn) const;

  // The verbs, as those of TdpMmu.
  FaultResult Fault(uint64_t gfn, bool write, bool may_install);
  Result Map(GfnRange range, const MapOptions& options);
  Result Zap(GfnRange range);
  Result Protect(GfnRange range, Access limit);
  Result WriteProtect(GfnRange range, PageLevel min_level);
  Result Split(GfnRange range, PageLevel target_level);
  Result Collapse(GfnRange range, PageLevel max_level);
  Result Age(GfnRange range, bool test_only, std::set<uint64_t>* young);
  Result Batch(const std::vector<MmuOperation>& operations);
  void MoveLimits(GfnRange from, Gfn to);
  void ClearLimits(GfnRange range);
  void InvalidateRoots();
  void ZapInvalidatedRoots();
  // The host drops mappings by itself.
  void DropHost(GfnRange range);

  uint64_t size() const { return frames_.size(); }
  const Frame& At(uint64_t gfn) const { return frames_[gfn]; }
  int64_t valid_root() const { return valid_root_; }
  // By root, the root tables left out. A root that was zapped is not there.
  const std::map<int64_t, Tables>& tables() const { return tables_; }
  // Level of the last entry on the path to a frame in the valid root.
  PageLevel LastLevel(uint64_t gfn) const;

  int64_t leaves(PageLevel level) const {
    return leaves_[static_cast<size_t>(level)];
  }
  int64_t splits() const { return splits_; }
  int64_t collapses() const { return collapses_; }
  int64_t fixed() const { return fixed_; }
  int64_t spurious() const { return spurious_; }
  int64_t write_protected() const { return write_protected_; }

 private:
  enum class MapEffect { kNone, kMapped, kWriteGranted };
  using LeafVisit = std::function<void(uint64_t first)>;

  static constexpr int64_t kAllRoots = 0;

  // The frames of the leaf that holds `gfn`.
  GfnRange LeafOf(uint64_t gfn) const;
  // Visits each leaf of `root` that overlaps the range once; where `wants` says
  // so, a 1G leaf is split first.
  void ForEachLeaf(GfnRange range, int64_t root,
                   const std::function<bool(const Frame&)>& wants,
                   const LeafVisit& visit);
  template <typename Change>
  void ChangeLeaf(uint64_t first, const Change& change);
  void Install(uint64_t first, PageLevel level, const Slot& slot,
               bool make_writable);
  void Remove(uint64_t first);
  void SplitLeaf(uint64_t first);
  void LinkPath(uint64_t gfn, PageLevel level);
  void ZapInInvalidRoots(GfnRange range);
  bool UniformLimit(GfnRange range) const;
  bool MappedInValidRoot(GfnRange range) const;
  // What an access, or a map, does to the present leaf that holds `gfn`.
  MapEffect MapPresent(uint64_t gfn, bool write);
  // Puts a huge leaf on a block where that is possible.
  bool TryInstallHuge(GfnRange block, const Slot& slot, bool make_writable);
  void Limit(uint64_t first, Access limit, Result& result);
  bool CollapseAt(uint64_t first, PageLevel level);
  Error CheckBacked(GfnRange range) const;
  // Frames of leaves that were split, which count as of their level before.
  using SplitFrames = std::map<uint64_t, PageLevel>;
  void PrepareBatchPiece(const MmuOperation& operation, GfnRange piece,
                         SplitFrames& split);
  void ApplyToPiece(const MmuOperation& operation, const Slot& slot,
                    GfnRange piece, const SplitFrames& split, Result& result);

  const PageLevel root_level_;
  std::vector<Slot> slots_;
  std::vector<Frame> frames_;
  std::map<int64_t, Tables> tables_;
  int64_t valid_root_ = 1;
  std::array<int64_t, 8> leaves_{};
  int64_t splits_ = 0;
  int64_t collapses_ = 0;
  int64_t fixed_ = 0;
  int64_t spurious_ = 0;
  int64_t write_protected_ = 0;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_MMU_MODEL_H_
