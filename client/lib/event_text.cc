#include "client/lib/event_text.h"

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/spte_text.h"
#include "client/lib/words.h"

namespace tdp::client {
namespace {

std::string StateName(v1::Vm::State state) {
  return EnumText(v1::Vm::State_Name(state), "STATE_");
}

}  // namespace

std::string WaitingAccessText(const v1::AccessWaiting& access) {
  std::string text = absl::StrCat(
      "access ", access.access_id(), " by vcpu ", access.vcpu_index(), ": ",
      AccessText(access.access()), " at ", FormatFrameAddress(access.gfn()),
      ", cause ",
      EnumText(v1::AccessWaiting::Cause_Name(access.cause()), "CAUSE_"));
  if (!access.detail().empty()) {
    absl::StrAppend(&text, " (", access.detail(), ")");
  }
  return text;
}

std::string EventText(const v1::Event& event) {
  switch (event.detail_case()) {
    case v1::Event::kVmStateChanged:
      return absl::StrCat(
          "vm        ", StateName(event.vm_state_changed().old_state()), " -> ",
          StateName(event.vm_state_changed().new_state()));
    case v1::Event::kMemslotChanged:
      return absl::StrCat(
          "memslot   ", event.memslot_changed().memslot(),
          event.memslot_changed().deleted() ? " deleted" : " changed");
    case v1::Event::kUnbackedAccess:
      return absl::StrCat("unbacked  ",
                          AccessText(event.unbacked_access().access()), " at ",
                          FormatFrameAddress(event.unbacked_access().gfn()));
    case v1::Event::kAccessWaiting:
      return absl::StrCat("waiting   ",
                          WaitingAccessText(event.access_waiting()));
    case v1::Event::kVcpuExited:
      return absl::StrCat("exit      vcpu ", event.vcpu_exited().vcpu_index(),
                          ": ", event.vcpu_exited().reason());
    case v1::Event::DETAIL_NOT_SET:
      break;
  }
  return "unknown   update tdpctl to see this event";
}

}  // namespace tdp::client
