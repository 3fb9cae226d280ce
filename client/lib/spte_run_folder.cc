#include "client/lib/spte_run_folder.h"

#include <utility>

#include "client/lib/spte_text.h"

namespace tdp::client {
namespace {

// Bits 51:12 of an entry hold the frame number; see engine/paging.
constexpr uint64_t kPfnMask = ((uint64_t{1} << 52) - 1) & ~uint64_t{0xfff};

bool IsLeaf(const v1::Spte& spte) { return spte.present() && spte.leaf(); }

// Everything of an entry but where it is and what it points to. The decoded
// fields are compared too, so that a decoding the tool does not share shows.
bool SameKind(const v1::Spte& a, const v1::Spte& b) {
  if (a.level() != b.level() || a.frozen() != b.frozen()) return false;
  if (a.frozen()) return true;
  const uint64_t mask = a.present() ? ~kPfnMask : ~uint64_t{0};
  return a.present() == b.present() && a.leaf() == b.leaf() &&
         (a.raw() & mask) == (b.raw() & mask) &&
         a.access().read() == b.access().read() &&
         a.access().write() == b.access().write() &&
         a.accessed() == b.accessed() && a.dirty() == b.dirty() &&
         a.host_writable() == b.host_writable() &&
         a.mmu_writable() == b.mmu_writable();
}

}  // namespace

SpteRunFolder::SpteRunFolder(std::function<void(const SpteRun&)> emit)
    : emit_(std::move(emit)) {}

void SpteRunFolder::Add(const v1::Spte& spte) {
  const FrameRange frames = FramesOf(spte);
  if (run_ && Extends(spte)) {
    run_->frames.end_gfn = frames.end_gfn;
    ++run_->entry_count;
    return;
  }
  Finish();
  run_ = SpteRun{spte, frames, 1};
}

void SpteRunFolder::Finish() {
  if (run_) emit_(*run_);
  run_.reset();
}

bool SpteRunFolder::Extends(const v1::Spte& spte) const {
  if (spte.base_gfn() != run_->frames.end_gfn) return false;
  if (!SameKind(run_->first, spte)) return false;
  if (spte.frozen() || !IsLeaf(spte)) return true;
  return spte.pfn() - run_->first.pfn() ==
         spte.base_gfn() - run_->first.base_gfn();
}

}  // namespace tdp::client
