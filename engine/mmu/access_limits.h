// AccessLimits: the most that is granted on each frame of a VM, where that is
// less than what its memslot allows. Applied whenever an entry is made.
//
// A sorted list of ranges, replaced as a whole under RCU: looking up costs a
// load where there are no limits, a binary search where there are.
//
// Thread safety: At() from any thread, in an RCU read section. Changes are made
// by the holder of change_mutex().
//
// Invariants of the list: ranges ascend, do not touch if they say the same, and
// each limits something.

#ifndef ENGINE_MMU_ACCESS_LIMITS_H_
#define ENGINE_MMU_ACCESS_LIMITS_H_

#include <atomic>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu.h"

namespace tdp {

struct AccessLimit {
  GfnRange range;
  Access access;

  friend bool operator==(const AccessLimit&, const AccessLimit&) = default;
};

class AccessLimits {
 public:
  static constexpr Access kUnlimited = {.read = true, .write = true};

  // `access` holds for every frame from the one asked about up to `end`.
  struct Run {
    Access access;
    Gfn end;
  };
  struct List {
    RcuHead rcu;
    std::vector<AccessLimit> limits;
  };

  // `rcu` outlives the object.
  explicit AccessLimits(RcuDomain& rcu) : rcu_(rcu) {}
  // REQUIRES: no readers.
  ~AccessLimits();
  AccessLimits(const AccessLimits&) = delete;
  AccessLimits& operator=(const AccessLimits&) = delete;

  // REQUIRES: an RCU read section.
  Run At(Gfn gfn) const {
    // Acquire: the list is filled before it is published.
    const List* list = list_.load(std::memory_order_acquire);
    if (list == nullptr) [[likely]]
      return {kUnlimited, kGfnEnd};
    return Find(*list, gfn);
  }

  Mutex& change_mutex() ABSL_LOCK_RETURNED(change_mutex_) {
    return change_mutex_;
  }
  // The list after `changes`, in order; nothing is published. LIMIT_REACHED if
  // it would be too long.
  absl::StatusOr<std::unique_ptr<List>> Prepare(
      absl::Span<const AccessLimit> changes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  // Allocates nothing and waits for nothing.
  void Publish(std::unique_ptr<List> list)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);

  // The list as it is, to be published again.
  std::unique_ptr<List> CopyOfCurrent() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);

  // What is limited inside `range`.
  std::vector<AccessLimit> In(GfnRange range) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  // Makes `changes`, in order, which only bring back what was there before: the
  // number of ranges is not limited.
  void Restore(absl::Span<const AccessLimit> changes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);

  // Forgets what is said about `from`, and says it about as many frames from
  // `to` on.
  void Move(GfnRange from, Gfn to) ABSL_LOCKS_EXCLUDED(change_mutex_);
  void Clear(GfnRange range) ABSL_LOCKS_EXCLUDED(change_mutex_);

 private:
  static Run Find(const List& list, Gfn gfn);
  static void Apply(std::vector<AccessLimit>& limits,
                    const AccessLimit& change);
  std::vector<AccessLimit> Current() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  static std::unique_ptr<List> MakeList(std::vector<AccessLimit> limits);

  RcuDomain& rcu_;
  Mutex change_mutex_;
  // Null if nothing is limited.
  std::atomic<List*> list_{nullptr};
};

// Whether a limit lets an access be made.
constexpr bool Allows(Access limit, Access access) {
  return (limit.read || !access.read) && (limit.write || !access.write);
}

}  // namespace tdp

#endif  // ENGINE_MMU_ACCESS_LIMITS_H_
