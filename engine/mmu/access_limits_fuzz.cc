// AccessLimits against a list that knows each piece of the frame space.
//
// An input is a sequence of changes of seven bytes: what to do and the access,
// where the range starts, how long it is, and where it moves to; each number is
// a bit to set and a byte to add, so that ranges meet at edges of every size.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/check.h"
#include "engine/mmu/access_limits.h"
#include "engine/sync/rcu.h"

namespace tdp {
namespace {

constexpr Access kUnlimited = AccessLimits::kUnlimited;
constexpr size_t kChangeBytes = 7;
constexpr size_t kMaxChanges = 40;

// The access from each frame that is a key up to the next key.
class Reference {
 public:
  Access At(uint64_t gfn) const {
    return std::prev(pieces_.upper_bound(gfn))->second;
  }

  void Set(GfnRange range, Access access) {
    if (range.empty()) return;
    Cut(range.start.value());
    Cut(range.end.value());
    pieces_.erase(pieces_.lower_bound(range.start.value()),
                  pieces_.lower_bound(range.end.value()));
    pieces_[range.start.value()] = access;
  }

  void Move(GfnRange from, uint64_t to) {
    Cut(from.start.value());
    Cut(from.end.value());
    const auto first = pieces_.lower_bound(from.start.value());
    const auto last = pieces_.lower_bound(from.end.value());
    const std::map<uint64_t, Access> moved(first, last);
    Set(from, kUnlimited);
    for (auto it = moved.begin(); it != moved.end(); ++it) {
      // What is not limited leaves as it is what is said about its new place.
      if (it->second == kUnlimited) continue;
      const auto next = std::next(it);
      const uint64_t end = next == moved.end() ? from.end.value() : next->first;
      const Gfn start(to + (it->first - from.start.value()));
      Set({start, start + (end - it->first)}, it->second);
    }
  }

  const std::map<uint64_t, Access>& pieces() const { return pieces_; }

 private:
  void Cut(uint64_t gfn) { pieces_.emplace(gfn, At(gfn)); }

  std::map<uint64_t, Access> pieces_ = {{0, kUnlimited}};
};

class Fuzzed {
 public:
  // `rcu` is for all inputs: the end of a domain waits for a grace period.
  explicit Fuzzed(RcuDomain& rcu) : rcu_(rcu), limits_(rcu) {}

  void Change(const uint8_t* bytes) {
    const Access access = {.read = (bytes[0] & 3) != 0,
                           .write = (bytes[0] & 3) == 3};
    const Gfn start(Number(bytes + 1));
    const uint64_t room = kGfnEnd - start;
    const GfnRange range = {start, start + std::min(Number(bytes + 3), room)};
    switch (bytes[0] >> 6) {
      case 0:
      case 1:
        reference_.Set(range, access);
        Set(range, access);
        break;
      case 2:
        reference_.Set(range, kUnlimited);
        limits_.Clear(range);
        break;
      default:
        if (range.empty()) break;
        // A memslot moves to where it ends.
        const uint64_t to =
            std::min(Number(bytes + 5), ~uint64_t{0} - range.size());
        reference_.Move(range, to);
        limits_.Move(range, Gfn(to));
        break;
    }
  }

  void Check() {
    uint64_t seen = 0;
    while (seen != ~uint64_t{0}) seen = CheckAt(seen);
    for (const auto& [gfn, access] : reference_.pieces()) {
      CheckAt(gfn);
      if (gfn > 0) CheckAt(gfn - 1);
    }
    CheckList();
  }

 private:
  static uint64_t Number(const uint8_t* bytes) {
    const int shift = bytes[0] % 65;
    const uint64_t edge = shift == 64 ? 0 : uint64_t{1} << shift;
    return edge + static_cast<uint64_t>(
                      static_cast<int64_t>(static_cast<int8_t>(bytes[1])));
  }

  void Set(GfnRange range, Access access) {
    MutexLock lock(limits_.change_mutex());
    const AccessLimit change = {range, access};
    auto list = limits_.Prepare(absl::MakeConstSpan(&change, 1));
    TDP_CHECK(list.ok(), "a short list can be prepared");
    limits_.Publish(*std::move(list));
  }

  // Returns where the answer for `gfn` ends.
  uint64_t CheckAt(uint64_t gfn) {
    RcuReadGuard rcu(rcu_);
    const AccessLimits::Run run = limits_.At(Gfn(gfn));
    TDP_CHECK(gfn == ~uint64_t{0} || run.end > Gfn(gfn), "a run has frames");
    TDP_CHECK(gfn == ~uint64_t{0} || run.access == reference_.At(gfn),
              "the access of a frame");
    const auto& pieces = reference_.pieces();
    for (auto it = pieces.upper_bound(gfn);
         it != pieces.end() && it->first < run.end.value(); ++it) {
      TDP_CHECK(it->second == run.access, "an access holds for all its run");
    }
    return run.end.value();
  }

  void CheckList() {
    MutexLock lock(limits_.change_mutex());
    const AccessLimit* before = nullptr;
    const std::vector<AccessLimit> all = limits_.In({Gfn(0), kGfnEnd});
    for (const AccessLimit& limit : all) {
      TDP_CHECK(!limit.range.empty(), "a limit has frames");
      TDP_CHECK(limit.access != kUnlimited, "a limit limits");
      if (before != nullptr) {
        TDP_CHECK(before->range.end <= limit.range.start, "limits ascend");
        TDP_CHECK(before->range.end < limit.range.start ||
                      before->access != limit.access,
                  "neighbours differ");
      }
      before = &limit;
    }
  }

  RcuDomain& rcu_;
  AccessLimits limits_;
  Reference reference_;
};

}  // namespace
}  // namespace tdp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& rcu = *new tdp::RcuDomain(int64_t{64} << 20);
  tdp::Fuzzed fuzzed(rcu);
  for (size_t i = 0; i < tdp::kMaxChanges; ++i) {
    if ((i + 1) * tdp::kChangeBytes > size) break;
    fuzzed.Change(data + i * tdp::kChangeBytes);
  }
  fuzzed.Check();
  return 0;
}
