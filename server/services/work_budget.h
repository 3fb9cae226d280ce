// How long the engine may work on a call before it returns early.

#ifndef SERVER_SERVICES_WORK_BUDGET_H_
#define SERVER_SERVICES_WORK_BUDGET_H_

#include "engine/vm/vm.h"
#include "server/rpc/call_context.h"

namespace tdp::server {

// What is left of the call's time, at most the engine's default. `context`
// outlives the budget.
WorkBudget BudgetOf(const CallContext& context);

}  // namespace tdp::server

#endif  // SERVER_SERVICES_WORK_BUDGET_H_
