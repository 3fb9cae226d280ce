// RcuModel: grace periods that a test controls. It takes the place of liburcu's
// worker: what was retired is reclaimed as early as the rules allow, by the
// thread whose read section was the last to end, or as late as possible.
//
// Thread safety: none; the threads of a test take turns.
//
// Invariants: an object is reclaimed after every read section has ended that
// was open when it was retired. Objects are reclaimed in the order retired.

#ifndef ENGINE_TESTING_RCU_MODEL_H_
#define ENGINE_TESTING_RCU_MODEL_H_

#include <array>
#include <cstdint>
#include <deque>

namespace tdp::testing {

class RcuModel {
 public:
  static constexpr int kMaxThreads = 5;

  // Reclaim only when somebody waits for it.
  void set_lazy(bool lazy) { lazy_ = lazy; }

  void BeginSection(int thread) {
    Reader& reader = readers_[thread];
    if (reader.depth++ == 0) ++reader.sections;
  }
  void EndSection(int thread) {
    --readers_[thread].depth;
    if (!lazy_) ReclaimRipe();
  }
  bool InSection(int thread) const { return readers_[thread].depth != 0; }

  void Retire(void* node, void (*reclaim)(void*)) {
    ++retired_;
    pending_.push_back({node, reclaim, OpenSections()});
    if (!lazy_) ReclaimRipe();
  }
  // Objects retired, and how many of them are reclaimed.
  uint64_t retired() const { return retired_; }
  uint64_t reclaimed() const { return reclaimed_; }

  void ReclaimRipe() {
    // A reclaim function may retire more.
    while (!pending_.empty() && IsRipe(pending_.front().seen)) {
      const Retired next = pending_.front();
      pending_.pop_front();
      next.reclaim(next.node);
      ++reclaimed_;
    }
  }

  using Sections = std::array<uint64_t, kMaxThreads>;
  // The number of each thread's open section, 0 if it is in none.
  Sections OpenSections() const {
    Sections open{};
    for (int i = 0; i < kMaxThreads; ++i) {
      if (readers_[i].depth != 0) open[i] = readers_[i].sections;
    }
    return open;
  }
  // Every section of `seen` has ended.
  bool IsRipe(const Sections& seen) const {
    for (int i = 0; i < kMaxThreads; ++i) {
      if (seen[i] != 0 && readers_[i].depth != 0 &&
          readers_[i].sections == seen[i]) {
        return false;
      }
    }
    return true;
  }

 private:
  struct Reader {
    int depth = 0;
    uint64_t sections = 0;
  };
  struct Retired {
    void* node;
    void (*reclaim)(void*);
    Sections seen;
  };

  bool lazy_ = false;
  std::array<Reader, kMaxThreads> readers_;
  std::deque<Retired> pending_;
  uint64_t retired_ = 0;
  uint64_t reclaimed_ = 0;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_RCU_MODEL_H_
