#include "client/lib/names.h"

#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

// The last segments of the names of a VM and its memslot.
std::pair<absl::string_view, absl::string_view> Split(absl::string_view path) {
  absl::ConsumePrefix(&path, "vms/");
  const size_t end = path.find('/');
  if (end == absl::string_view::npos) return {path, ""};
  absl::string_view memslot = path.substr(end + 1);
  absl::ConsumePrefix(&memslot, "memslots/");
  return {path.substr(0, end), memslot};
}

}  // namespace

std::string VmName(absl::string_view vm) {
  return absl::StartsWith(vm, "vms/") ? std::string(vm)
                                      : absl::StrCat("vms/", vm);
}

std::string MemslotName(absl::string_view vm, absl::string_view memslot) {
  return absl::StrCat(VmName(vm), "/memslots/", memslot);
}

std::string MemslotIdIn(absl::string_view path) {
  return std::string(Split(path).second);
}

std::string VmNameIn(absl::string_view path) {
  return VmName(Split(path).first);
}

std::string DirtyConsumerName(absl::string_view vm,
                              absl::string_view consumer) {
  return absl::StrCat(VmName(vm), "/dirtyConsumers/", consumer);
}

std::string VcpuName(absl::string_view vm, absl::string_view vcpu) {
  return absl::StrCat(VmName(vm), "/vcpus/", vcpu == "all" ? "-" : vcpu);
}

std::string LastSegment(absl::string_view name) {
  return std::string(name.substr(name.rfind('/') + 1));
}

}  // namespace tdp::client
