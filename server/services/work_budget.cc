#include "server/services/work_budget.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tdp::server {

WorkBudget BudgetOf(const CallContext& context) {
  WorkBudget budget;
  budget.time = std::clamp(context.deadline() - absl::Now(),
                           absl::ZeroDuration(), budget.time);
  budget.cancelled = [&context] { return context.cancelled(); };
  return budget;
}

}  // namespace tdp::server
