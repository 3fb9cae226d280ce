#include "server/convert/event_convert.h"

#include <variant>

#include "engine/base/errors.h"
#include "server/convert/common_convert.h"
#include "server/convert/resource_names.h"
#include "server/convert/vm_convert.h"

namespace tdp::server {
namespace {

// Fills the detail of an event, by its kind.
struct DetailWriter {
  absl::string_view vm;
  v1::Event* out;

  void operator()(const VmStateChangedEvent& event) const {
    v1::VmStateChanged* detail = out->mutable_vm_state_changed();
    detail->set_old_state(ToProto(event.old_state));
    detail->set_new_state(ToProto(event.new_state));
  }
  void operator()(const MemslotChangedEvent& event) const {
    v1::MemslotChanged* detail = out->mutable_memslot_changed();
    detail->set_memslot(MakeMemslotName(vm, event.memslot_id));
    detail->set_deleted(event.deleted);
  }
  void operator()(const UnbackedAccessEvent& event) const {
    v1::UnbackedAccess* detail = out->mutable_unbacked_access();
    detail->set_gfn(event.gfn.value());
    ToProto(event.access, detail->mutable_access());
  }
  void operator()(const WaitingAccess& event) const {
    ToProto(event, out->mutable_access_waiting());
  }
  void operator()(const VcpuExitedEvent& event) const {
    v1::VcpuExited* detail = out->mutable_vcpu_exited();
    detail->set_vcpu_index(event.vcpu_index);
    detail->set_reason(event.reason);
  }
};

}  // namespace

void ToProto(const WaitingAccess& access, v1::AccessWaiting* out) {
  out->set_access_id(access.access_id);
  out->set_gfn(access.gfn.value());
  ToProto(access.access, out->mutable_access());
  out->set_vcpu_index(access.vcpu_index);
  out->set_cause(static_cast<v1::AccessWaiting::Cause>(access.cause));
  out->set_detail(access.detail);
}

void ToProto(absl::string_view vm, const Event& event, v1::Event* out) {
  out->set_sequence(event.sequence);
  ToProto(event.time, out->mutable_event_time());
  std::visit(DetailWriter{vm, out}, event.detail);
}

absl::StatusOr<Verdict> VerdictFrom(absl::string_view field,
                                    v1::ResolveAccessRequest::Verdict verdict) {
  constexpr char kRule[] = "VERDICT_GRANT, VERDICT_RETRY or VERDICT_KILL";
  if (verdict == v1::ResolveAccessRequest::VERDICT_UNSPECIFIED) {
    return FieldError(field, "", kRule);
  }
  if (!v1::ResolveAccessRequest::Verdict_IsValid(verdict)) {
    return EnumError(field, verdict, "", kRule);
  }
  return static_cast<Verdict>(verdict);
}

}  // namespace tdp::server
