// The operations of ApplyBatch, from the API to the engine.

#ifndef SERVER_CONVERT_BATCH_CONVERT_H_
#define SERVER_CONVERT_BATCH_CONVERT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "engine/vm/vm_types.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::server {

// Errors name fields as "operations[3].protect.range". More operations than the
// engine takes are refused before any is looked at; how many frames there may
// be, and whether they overlap, is the engine's question.
absl::StatusOr<std::vector<BatchOperation>> BatchFrom(
    const v1::ApplyBatchRequest& request);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_BATCH_CONVERT_H_
