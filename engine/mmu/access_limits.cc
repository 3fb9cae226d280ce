#include "engine/mmu/access_limits.h"

#include <algorithm>
#include <utility>

#include "engine/base/errors.h"
#include "engine/base/limits.h"

namespace tdp {

AccessLimits::~AccessLimits() {
  // Relaxed: nobody else uses the object any more.
  delete list_.load(std::memory_order_relaxed);
}

AccessLimits::Run AccessLimits::Find(const List& list, Gfn gfn) {
  const auto after =
      std::upper_bound(list.limits.begin(), list.limits.end(), gfn,
                       [](Gfn frame, const AccessLimit& limit) {
                         return frame < limit.range.end;
                       });
  if (after == list.limits.end()) return {kUnlimited, Gfn(~uint64_t{0})};
  if (gfn < after->range.start) return {kUnlimited, after->range.start};
  return {after->access, after->range.end};
}

std::vector<AccessLimit> AccessLimits::Current() const {
  // Relaxed: changes are made under the mutex.
  const List* list = list_.load(std::memory_order_relaxed);
  return list == nullptr ? std::vector<AccessLimit>() : list->limits;
}

void AccessLimits::Apply(std::vector<AccessLimit>& limits,
                         const AccessLimit& change) {
  if (change.range.empty()) return;
  std::vector<AccessLimit> next;
  next.reserve(limits.size() + 2);
  const auto add = [&next](const AccessLimit& limit) {
    if (limit.range.empty() || limit.access == kUnlimited) return;
    if (!next.empty() && next.back().access == limit.access &&
        next.back().range.end == limit.range.start) {
      next.back().range.end = limit.range.end;
    } else {
      next.push_back(limit);
    }
  };
  bool added = false;
  for (const AccessLimit& limit : limits) {
    if (limit.range.end <= change.range.start) {
      add(limit);
      continue;
    }
    add({{limit.range.start, std::min(limit.range.end, change.range.start)},
         limit.access});
    if (!added) add(change);
    added = true;
    add({{std::max(limit.range.start, change.range.end), limit.range.end},
         limit.access});
  }
  if (!added) add(change);
  limits = std::move(next);
}

std::unique_ptr<AccessLimits::List> AccessLimits::MakeList(
    std::vector<AccessLimit> limits) {
  if (limits.empty()) return nullptr;
  auto list = std::make_unique<List>();
  list->limits = std::move(limits);
  return list;
}

absl::StatusOr<std::unique_ptr<AccessLimits::List>> AccessLimits::Prepare(
    absl::Span<const AccessLimit> changes) const {
  std::vector<AccessLimit> limits = Current();
  for (const AccessLimit& change : changes) Apply(limits, change);
  if (static_cast<int64_t>(limits.size()) > limits::kMaxProtectedRanges) {
    return LimitError("max_protected_ranges", limits::kMaxProtectedRanges,
                      "protect larger ranges, or lift a protection");
  }
  return MakeList(std::move(limits));
}

std::unique_ptr<AccessLimits::List> AccessLimits::CopyOfCurrent() const {
  return MakeList(Current());
}

void AccessLimits::Publish(std::unique_ptr<List> list) {
  // Release: the list is filled before it is seen. Acquire: the old one goes to
  // its reclaimer.
  List* old = list_.exchange(list.release(), std::memory_order_acq_rel);
  if (old == nullptr) return;
  rcu_.Retire(&old->rcu,
              static_cast<int64_t>(sizeof(List) +
                                   old->limits.size() * sizeof(AccessLimit)),
              [](RcuHead* head) { delete reinterpret_cast<List*>(head); });
}

std::vector<AccessLimit> AccessLimits::In(GfnRange range) const {
  std::vector<AccessLimit> inside;
  for (const AccessLimit& limit : Current()) {
    const GfnRange part = limit.range.Intersect(range);
    if (!part.empty()) inside.push_back({part, limit.access});
  }
  return inside;
}

void AccessLimits::Restore(absl::Span<const AccessLimit> changes) {
  const std::vector<AccessLimit> before = Current();
  std::vector<AccessLimit> limits = before;
  for (const AccessLimit& change : changes) Apply(limits, change);
  if (limits != before) Publish(MakeList(std::move(limits)));
}

void AccessLimits::Move(GfnRange from, Gfn to) {
  MutexLock lock(change_mutex_);
  std::vector<AccessLimit> changes = {{from, kUnlimited}};
  for (const AccessLimit& limit : In(from)) {
    const Gfn start = to + (limit.range.start - from.start);
    changes.push_back({{start, start + limit.range.size()}, limit.access});
  }
  Restore(changes);
}

void AccessLimits::Clear(GfnRange range) {
  MutexLock lock(change_mutex_);
  const AccessLimit change = {range, kUnlimited};
  Restore(absl::MakeConstSpan(&change, 1));
}

}  // namespace tdp
