#include "client/lib/names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tdp::client {

std::string VmName(absl::string_view vm) {
  return absl::StartsWith(vm, "vms/") ? std::string(vm)
                                      : absl::StrCat("vms/", vm);
}

std::string MemslotName(absl::string_view vm, absl::string_view memslot) {
  return absl::StrCat(VmName(vm), "/memslots/", memslot);
}

std::string DirtyConsumerName(absl::string_view vm,
                              absl::string_view consumer) {
  return absl::StrCat(VmName(vm), "/dirtyConsumers/", consumer);
}

std::string VcpuName(absl::string_view vm, absl::string_view vcpu) {
  return absl::StrCat(VmName(vm), "/vcpus/", vcpu == "all" ? "-" : vcpu);
}

}  // namespace tdp::client
