#include "server/services/memslot_service.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"
#include "server/convert/memslot_convert.h"
#include "server/convert/paging.h"
#include "server/convert/resource_names.h"
#include "server/services/find_vm.h"

namespace tdp::server {

absl::Status MemslotHandler::CreateMemslot(
    CallContext&, const v1::CreateMemslotRequest& request,
    v1::CreateMemslotResponse* response) {
  TDP_RETURN_IF_ERROR(ParseVmName("parent", request.parent()).status());
  TDP_RETURN_IF_ERROR(CheckId("memslot_id", request.memslot_id()));
  if (!request.has_memslot()) return FieldError("memslot", "", "set");
  TDP_ASSIGN_OR_RETURN(const MemslotConfig config,
                       MemslotConfigFrom(request.memslot()));
  TDP_RETURN_IF_ERROR(RequestCache::CheckId(request.request_id()));
  // A check changes nothing, so there is nothing to remember.
  return requests_.Run(
      request.validate_only() ? "" : request.request_id(), request, response,
      [&]() -> absl::Status {
        TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                             FindVm(registry_, "parent", request.parent()));
        TDP_ASSIGN_OR_RETURN(const MemslotInfo info,
                             vm->CreateMemslot(request.memslot_id(), config,
                                               request.validate_only()));
        ToProto(vm.id, info, response->mutable_memslot());
        return absl::OkStatus();
      });
}

absl::Status MemslotHandler::GetMemslot(CallContext&,
                                        const v1::GetMemslotRequest& request,
                                        v1::GetMemslotResponse* response) {
  TDP_ASSIGN_OR_RETURN(const MemslotName name,
                       ParseMemslotName("name", request.name()));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(name.vm));
  TDP_ASSIGN_OR_RETURN(const MemslotInfo info, vm->GetMemslot(name.memslot));
  ToProto(name.vm, info, response->mutable_memslot());
  return absl::OkStatus();
}

absl::Status MemslotHandler::ListMemslots(
    CallContext&, const v1::ListMemslotsRequest& request,
    v1::ListMemslotsResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "parent", request.parent()));
  TDP_ASSIGN_OR_RETURN(const size_t page_size,
                       ParsePageSize(request.page_size()));
  const std::string list = absl::StrCat(request.parent(), "/memslots");
  TDP_ASSIGN_OR_RETURN(const std::optional<uint64_t> after,
                       ParseNumericPageToken(list, request.page_token()));
  PageBudget page(page_size);
  uint64_t last = 0;
  for (const MemslotInfo& info : vm->ListMemslots()) {
    const uint64_t base = info.config.base_gfn.value();
    if (after.has_value() && base <= *after) continue;
    v1::Memslot memslot;
    ToProto(vm.id, info, &memslot);
    if (!page.Take(memslot.ByteSizeLong())) {
      response->set_next_page_token(MakePageToken(list, absl::StrCat(last)));
      break;
    }
    *response->add_memslots() = std::move(memslot);
    last = base;
  }
  return absl::OkStatus();
}

absl::Status MemslotHandler::UpdateMemslot(
    CallContext&, const v1::UpdateMemslotRequest& request,
    v1::UpdateMemslotResponse* response) {
  TDP_ASSIGN_OR_RETURN(
      const MemslotName name,
      ParseMemslotName("memslot.name", request.memslot().name()));
  TDP_ASSIGN_OR_RETURN(
      const MemslotUpdate update,
      MemslotUpdateFrom(request.memslot(), request.update_mask()));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(name.vm));
  TDP_ASSIGN_OR_RETURN(
      const MemslotInfo info,
      vm->UpdateMemslot(name.memslot, update, request.memslot().etag()));
  ToProto(name.vm, info, response->mutable_memslot());
  return absl::OkStatus();
}

absl::Status MemslotHandler::DeleteMemslot(
    CallContext&, const v1::DeleteMemslotRequest& request,
    v1::DeleteMemslotResponse*) {
  TDP_ASSIGN_OR_RETURN(const MemslotName name,
                       ParseMemslotName("name", request.name()));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(name.vm));
  return vm->DeleteMemslot(name.memslot, request.etag());
}

}  // namespace tdp::server
