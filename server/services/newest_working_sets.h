// NewestWorkingSets: of each VM the newest histogram that some client asked
// for. Who only looks, as the web page does, sees it without a scan of his own,
// which would age the guest's memory.
//
// Thread safety: any thread.

#ifndef SERVER_SERVICES_NEWEST_WORKING_SETS_H_
#define SERVER_SERVICES_NEWEST_WORKING_SETS_H_

#include <map>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/vm/vm.h"
#include "engine/vm/vm_types.h"

namespace tdp::server {

class NewestWorkingSets {
 public:
  // Forgets those of VMs that are gone, too.
  void Put(const std::shared_ptr<Vm>& vm, const WorkingSet& working_set);
  std::optional<WorkingSet> Of(const Vm& vm) const;

 private:
  struct Entry {
    std::weak_ptr<Vm> vm;
    WorkingSet working_set;
  };

  mutable absl::Mutex mutex_;
  // A VM that is gone may have left its key to another one.
  std::map<const Vm*, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_NEWEST_WORKING_SETS_H_
