#include "server/services/newest_working_sets.h"

namespace tdp::server {

void NewestWorkingSets::Put(const std::shared_ptr<Vm>& vm,
                            const WorkingSet& working_set) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(entries_,
                [](const auto& entry) { return entry.second.vm.expired(); });
  entries_[vm.get()] = {vm, working_set};
}

std::optional<WorkingSet> NewestWorkingSets::Of(const Vm& vm) const {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(&vm);
  if (found == entries_.end() || found->second.vm.expired()) {
    return std::nullopt;
  }
  return found->second.working_set;
}

}  // namespace tdp::server
