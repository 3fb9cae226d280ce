#include "server/convert/vm_convert.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"
#include "server/convert/resource_names.h"
#include "server/convert/text.h"

namespace tdp::server {

absl::StatusOr<std::map<std::string, std::string>> LabelsFrom(
    const v1::Vm& vm) {
  if (vm.labels_size() > limits::kMaxLabels) {
    return FieldError("vm.labels", absl::StrCat(vm.labels_size(), " labels"),
                      absl::StrCat("at most ", limits::kMaxLabels, " labels"));
  }
  std::map<std::string, std::string> labels;
  for (const auto& [key, value] : vm.labels()) {
    if (key.empty() || key.size() + value.size() >
                           static_cast<size_t>(limits::kMaxLabelBytes)) {
      return FieldError(
          "vm.labels", absl::StrCat("a label with the key ", Shown(key)),
          absl::StrCat("labels with a key and at most ", limits::kMaxLabelBytes,
                       " bytes of key and value"));
    }
    labels.emplace(key, value);
  }
  return labels;
}

absl::StatusOr<VmConfig> VmConfigFrom(const v1::Vm& vm) {
  VmConfig config;
  if (vm.vcpu_count() < 1 || vm.vcpu_count() > limits::kMaxVcpusPerVm) {
    return FieldError("vm.vcpu_count", absl::StrCat(vm.vcpu_count()),
                      absl::StrCat("1 to ", limits::kMaxVcpusPerVm));
  }
  config.vcpu_count = vm.vcpu_count();
  if (vm.page_table_limit_bytes() != 0 &&
      vm.page_table_limit_bytes() < limits::kMinPageTableLimitBytes) {
    return FieldError("vm.page_table_limit_bytes",
                      absl::StrCat(vm.page_table_limit_bytes()),
                      absl::StrCat("0 for the default, or at least ",
                                   limits::kMinPageTableLimitBytes));
  }
  config.page_table_limit_bytes = vm.page_table_limit_bytes();
  TDP_ASSIGN_OR_RETURN(config.labels, LabelsFrom(vm));
  if (!v1::Vm::Hypervisor_IsValid(vm.hypervisor())) {
    return EnumError("vm.hypervisor", vm.hypervisor(), "",
                     "HYPERVISOR_KVM, HYPERVISOR_SOFTWARE or unspecified");
  }
  config.hypervisor = static_cast<HypervisorKind>(vm.hypervisor());
  if (vm.root_level() != 0 && vm.root_level() != 4 && vm.root_level() != 5) {
    return FieldError("vm.root_level", absl::StrCat(vm.root_level()),
                      "4, 5, or 0 for the default");
  }
  config.root_level = vm.root_level();
  return config;
}

void ToProto(const VmInfo& info, v1::Vm* out) {
  out->set_name(MakeVmName(info.id));
  out->set_vcpu_count(info.config.vcpu_count);
  out->set_page_table_limit_bytes(info.config.page_table_limit_bytes);
  for (const auto& [key, value] : info.config.labels) {
    (*out->mutable_labels())[key] = value;
  }
  out->set_state(ToProto(info.state));
  ToProto(info.create_time, out->mutable_create_time());
  out->set_etag(info.etag);
  out->set_hypervisor(static_cast<v1::Vm::Hypervisor>(info.config.hypervisor));
  out->set_root_level(info.config.root_level);
}

v1::Vm::State ToProto(VmState state) {
  return static_cast<v1::Vm::State>(state);
}

}  // namespace tdp::server
