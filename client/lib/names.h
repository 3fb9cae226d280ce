// Resource names from what people type.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_NAMES_H_
#define CLIENT_LIB_NAMES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tdp::client {

// "demo" and "vms/demo" both give "vms/demo".
std::string VmName(absl::string_view vm);
// "vms/demo/memslots/ram".
std::string MemslotName(absl::string_view vm, absl::string_view memslot);
// The memslot in "demo/ram" and "vms/demo/memslots/ram", else "": then a VM is
// meant.
std::string MemslotIdIn(absl::string_view path);
// "vms/demo" for the VM of such a path.
std::string VmNameIn(absl::string_view path);
// "vms/demo/dirtyConsumers/backup".
std::string DirtyConsumerName(absl::string_view vm, absl::string_view consumer);
// "vms/demo/vcpus/0"; "all" gives the index "-".
std::string VcpuName(absl::string_view vm, absl::string_view vcpu);

// "ram" for "vms/demo/memslots/ram".
std::string LastSegment(absl::string_view name);

}  // namespace tdp::client

#endif  // CLIENT_LIB_NAMES_H_
