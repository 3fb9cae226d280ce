// Accesses and the operations of a batch as people write them.
//
// An operation is a verb, a range and options, with colons between them:
//
//   zap:RANGE
//   protect:RANGE:none|read|read-write
//   write-protect:RANGE[:MIN-LEVEL]
//   map:RANGE[:write][:MAX-LEVEL]
//
// Ranges are as in address.h; MIN-LEVEL is 4K, 2M or 1G, MAX-LEVEL 4K or 2M.
// Every parser refuses what it does not understand with a sentence that quotes
// the text.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_MMU_OPERATION_H_
#define CLIENT_LIB_MMU_OPERATION_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// "none", "read" or "read-write".
absl::StatusOr<v1::Access> ParseAccess(absl::string_view text);
absl::StatusOr<v1::MmuOperation> ParseMmuOperation(absl::string_view text);

}  // namespace tdp::client

#endif  // CLIENT_LIB_MMU_OPERATION_H_
