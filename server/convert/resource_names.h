// Resource names: the only place that knows how they are written.
//
//   vms/{vm}                      vms/{vm}/vcpus/{index}
//   vms/{vm}/memslots/{memslot}   vms/{vm}/dirtyConsumers/{consumer}
//
// An error names the API field, the value and the rule that it breaks.

#ifndef SERVER_CONVERT_RESOURCE_NAMES_H_
#define SERVER_CONVERT_RESOURCE_NAMES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

struct MemslotName {
  std::string vm;
  std::string memslot;
};

struct DirtyConsumerName {
  std::string vm;
  std::string consumer;
};

inline constexpr int kEveryVcpu = -1;

struct VcpuName {
  std::string vm;
  int index = 0;  // or kEveryVcpu
};

// Whether "-" may stand for every vCPU.
enum class Wildcard { kRefused, kAllowed };

// Ids are ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$
absl::Status CheckId(absl::string_view field, absl::string_view id);

// Returns the id of the VM.
absl::StatusOr<std::string> ParseVmName(absl::string_view field,
                                        absl::string_view name);
absl::StatusOr<MemslotName> ParseMemslotName(absl::string_view field,
                                             absl::string_view name);
absl::StatusOr<DirtyConsumerName> ParseDirtyConsumerName(
    absl::string_view field, absl::string_view name);
absl::StatusOr<VcpuName> ParseVcpuName(absl::string_view field,
                                       absl::string_view name,
                                       Wildcard wildcard);

std::string MakeVmName(absl::string_view vm);
std::string MakeMemslotName(absl::string_view vm, absl::string_view memslot);
std::string MakeDirtyConsumerName(absl::string_view vm,
                                  absl::string_view consumer);
std::string MakeVcpuName(absl::string_view vm, int index);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_RESOURCE_NAMES_H_
