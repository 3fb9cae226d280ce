// Early return on an error, so that a handler reads as a list of steps.
//
//   TDP_RETURN_IF_ERROR(CheckId("vm_id", request.vm_id()));
//   TDP_ASSIGN_OR_RETURN(VmConfig config, FromProto("vm", request.vm()));

#ifndef SERVER_BASE_STATUS_MACROS_H_
#define SERVER_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define TDP_RETURN_IF_ERROR(expression)      \
  do {                                       \
    absl::Status tdp_status = (expression);  \
    if (!tdp_status.ok()) return tdp_status; \
  } while (false)

#define TDP_MACRO_JOIN_INNER(a, b) a##b
#define TDP_MACRO_JOIN(a, b) TDP_MACRO_JOIN_INNER(a, b)
#define TDP_ASSIGN_OR_RETURN(target, expression)                        \
  TDP_ASSIGN_OR_RETURN_AS(TDP_MACRO_JOIN(tdp_value_, __LINE__), target, \
                          expression)
#define TDP_ASSIGN_OR_RETURN_AS(name, target, expression) \
  auto name = (expression);                               \
  if (!name.ok()) return name.status();                   \
  target = *std::move(name)

#endif  // SERVER_BASE_STATUS_MACROS_H_
