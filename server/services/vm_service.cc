#include "server/services/vm_service.h"

#include <optional>
#include <string>
#include <utility>

#include "engine/base/errors.h"
#include "server/base/status_macros.h"
#include "server/convert/paging.h"
#include "server/convert/resource_names.h"
#include "server/convert/update_mask.h"
#include "server/convert/vm_convert.h"
#include "server/services/find_vm.h"

namespace tdp::server {

absl::Status VmHandler::CreateVm(CallContext&,
                                 const v1::CreateVmRequest& request,
                                 v1::CreateVmResponse* response) {
  TDP_RETURN_IF_ERROR(CheckId("vm_id", request.vm_id()));
  if (!request.has_vm()) return FieldError("vm", "", "set");
  TDP_ASSIGN_OR_RETURN(const VmConfig config, VmConfigFrom(request.vm()));
  TDP_RETURN_IF_ERROR(RequestCache::CheckId(request.request_id()));
  // A check changes nothing, so there is nothing to remember.
  return requests_.Run(request.validate_only() ? "" : request.request_id(),
                       request, response, [&]() -> absl::Status {
                         TDP_ASSIGN_OR_RETURN(
                             const VmInfo info,
                             registry_.CreateVm(request.vm_id(), config,
                                                request.validate_only()));
                         ToProto(info, response->mutable_vm());
                         return absl::OkStatus();
                       });
}

absl::Status VmHandler::GetVm(CallContext&, const v1::GetVmRequest& request,
                              v1::GetVmResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "name", request.name()));
  ToProto(vm->Describe(), response->mutable_vm());
  return absl::OkStatus();
}

absl::Status VmHandler::ListVms(CallContext&, const v1::ListVmsRequest& request,
                                v1::ListVmsResponse* response) {
  TDP_ASSIGN_OR_RETURN(const size_t page_size,
                       ParsePageSize(request.page_size()));
  TDP_ASSIGN_OR_RETURN(const std::optional<std::string> after,
                       ParsePageToken("vms", request.page_token()));
  PageBudget page(page_size);
  for (const VmInfo& info : registry_.ListVms()) {
    if (after.has_value() && info.id <= *after) continue;
    v1::Vm vm;
    ToProto(info, &vm);
    if (!page.Take(vm.ByteSizeLong())) {
      // Names are vms/{id}: the last one sent tells where to go on.
      const std::string& last = response->vms(response->vms_size() - 1).name();
      TDP_ASSIGN_OR_RETURN(const std::string key, ParseVmName("name", last));
      response->set_next_page_token(MakePageToken("vms", key));
      break;
    }
    *response->add_vms() = std::move(vm);
  }
  return absl::OkStatus();
}

absl::Status VmHandler::UpdateVm(CallContext&,
                                 const v1::UpdateVmRequest& request,
                                 v1::UpdateVmResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "vm.name", request.vm().name()));
  // Labels are the only mutable field, so a good mask always names them.
  TDP_RETURN_IF_ERROR(
      ParseUpdateMask(request.update_mask(), *v1::Vm::descriptor(), {"labels"})
          .status());
  TDP_ASSIGN_OR_RETURN(auto labels, LabelsFrom(request.vm()));
  TDP_ASSIGN_OR_RETURN(const VmInfo info,
                       vm->SetLabels(std::move(labels), request.vm().etag()));
  ToProto(info, response->mutable_vm());
  return absl::OkStatus();
}

absl::Status VmHandler::DeleteVm(CallContext&,
                                 const v1::DeleteVmRequest& request,
                                 v1::DeleteVmResponse*) {
  TDP_ASSIGN_OR_RETURN(const std::string id,
                       ParseVmName("name", request.name()));
  return registry_.DeleteVm(id, request.etag());
}

absl::Status VmHandler::StartVm(CallContext&, const v1::StartVmRequest& request,
                                v1::StartVmResponse* response) {
  return Change(request.name(), &Vm::Start, response->mutable_vm());
}

absl::Status VmHandler::PauseVm(CallContext&, const v1::PauseVmRequest& request,
                                v1::PauseVmResponse* response) {
  return Change(request.name(), &Vm::Pause, response->mutable_vm());
}

absl::Status VmHandler::ResumeVm(CallContext&,
                                 const v1::ResumeVmRequest& request,
                                 v1::ResumeVmResponse* response) {
  return Change(request.name(), &Vm::Resume, response->mutable_vm());
}

absl::Status VmHandler::StopVm(CallContext&, const v1::StopVmRequest& request,
                               v1::StopVmResponse* response) {
  return Change(request.name(), &Vm::Stop, response->mutable_vm());
}

absl::Status VmHandler::Change(absl::string_view name, Transition transition,
                               v1::Vm* out) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "name", name));
  TDP_ASSIGN_OR_RETURN(const VmInfo info, (vm.vm.get()->*transition)());
  ToProto(info, out);
  return absl::OkStatus();
}

}  // namespace tdp::server
