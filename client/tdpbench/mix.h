// Mix: which operations a load is made of, and how often each.
//
// Thread safety: free functions on values.

#ifndef CLIENT_TDPBENCH_MIX_H_
#define CLIENT_TDPBENCH_MIX_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::client {

enum class Operation {
  kWalkGfn,
  kWalkFrames,
  kWalkRange,
  kStreamOps,
  kMap,
  kZap,
  kAge,
  kGetVm,
  kGetStats,
  kGetInfo,
};
inline constexpr size_t kOperationCount = 10;

// "walk_gfn".
const char* OperationName(Operation operation);
// All names, for help.
std::string OperationNames();

class Mix {
 public:
  // "walk_gfn=90,map=5,zap=5": any positive weights; a name alone weighs 1.
  static absl::StatusOr<Mix> Parse(absl::string_view text);

  // The operation for a random number.
  Operation Pick(uint64_t random) const;
  bool Has(Operation operation) const;

 private:
  struct Part {
    Operation operation;
    uint64_t end;  // of its share of [0, total)
  };

  std::vector<Part> parts_;
};

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_MIX_H_
