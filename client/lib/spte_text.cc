#include "client/lib/spte_text.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tdp::client {
namespace {

bool IsSettledLeaf(const v1::Spte& spte) {
  return spte.present() && spte.leaf() && !spte.frozen();
}

}  // namespace

uint64_t FramesPerEntry(v1::PageLevel level) {
  if (level < v1::PAGE_LEVEL_4K || level > v1::PAGE_LEVEL_256T) return 0;
  return uint64_t{1} << (9 * (static_cast<int>(level) - 1));
}

FrameRange FramesOf(const v1::Spte& spte) {
  const uint64_t frames = FramesPerEntry(spte.level());
  const uint64_t room = std::numeric_limits<uint64_t>::max() - spte.base_gfn();
  return {spte.base_gfn(), spte.base_gfn() + std::min(frames, room)};
}

std::string StateText(const v1::Spte& spte) {
  if (spte.frozen()) return "frozen";
  if (!spte.present()) return "none";
  return spte.leaf() ? "leaf" : "table";
}

std::string AccessText(const v1::Access& access) {
  return absl::StrCat(access.read() ? "r" : "-", access.write() ? "w" : "-");
}

std::string LeafAccessText(const v1::Spte& spte) {
  return IsSettledLeaf(spte) ? AccessText(spte.access()) : "";
}

std::string LeafPfnText(const v1::Spte& spte) {
  return IsSettledLeaf(spte) ? FormatHex(spte.pfn()) : "";
}

std::string LeafBitsText(const v1::Spte& spte) {
  if (!IsSettledLeaf(spte)) return "";
  std::vector<const char*> bits;
  if (spte.accessed()) bits.push_back("A");
  if (spte.dirty()) bits.push_back("D");
  if (spte.host_writable()) bits.push_back("HW");
  if (spte.mmu_writable()) bits.push_back("MW");
  return absl::StrJoin(bits, " ");
}

}  // namespace tdp::client
