#include "server/services/vcpu_service.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"
#include "server/convert/paging.h"
#include "server/convert/resource_names.h"
#include "server/convert/vcpu_convert.h"
#include "server/services/find_vm.h"

namespace tdp::server {
namespace {

// The answer is on its way when the caller's deadline comes.
absl::Time AnswerTime(absl::Time deadline) {
  const absl::Duration left = deadline - absl::Now();
  const absl::Duration margin =
      std::clamp(left / 10, absl::Milliseconds(10), absl::Milliseconds(500));
  return deadline - margin;
}

// One WaitVcpu call. Kept alive by the engine's callback or an executor task.
class VcpuWait : public std::enable_shared_from_this<VcpuWait> {
 public:
  VcpuWait(CallContext& context, VcpuName name, std::shared_ptr<Vm> vm,
           Executor& executor, v1::Vcpu* out, Reply reply)
      : context_(context),
        name_(std::move(name)),
        vm_(std::move(vm)),
        executor_(executor),
        out_(out),
        reply_(std::move(reply)),
        place_({.peer = context.peer() == nullptr ? 0 : context.peer()->id}),
        answer_time_(AnswerTime(context.deadline())) {}

  void Start() {
    const absl::StatusOr<int64_t> wait = vm_->WaitVcpu(
        name_.index, answer_time_, [self = shared_from_this()](VcpuInfo info) {
          // On a thread of the engine, which must not be held up.
          if (!self->executor_.Continue(self->place_,
                                        [self, info] { self->Look(info); })) {
            self->reply_(DrainingError());
          }
        });
    if (!wait.ok()) return reply_(wait.status());
    // Weak: the context lives as long as reply_.
    context_.WakeAtEnd([weak = weak_from_this(), id = *wait] {
      const std::shared_ptr<VcpuWait> self = weak.lock();
      if (self != nullptr) self->vm_->EndWait(id);
    });
  }

 private:
  void Look(const VcpuInfo& info) {
    if (info.state == VcpuState::kExited || absl::Now() >= answer_time_) {
      ToProto(name_.vm, info, out_);
      reply_(absl::OkStatus());
      return;
    }
    const absl::Status alive = context_.CheckAlive();
    if (!alive.ok()) return reply_(alive);
    if (context_.draining()) return reply_(DrainingError());
    Start();  // the VM is gone, and says so
  }

  CallContext& context_;  // lives as long as reply_
  const VcpuName name_;
  const std::shared_ptr<Vm> vm_;
  Executor& executor_;
  v1::Vcpu* const out_;  // lives as long as reply_
  const Reply reply_;
  // The caller's own: thousands of waits delay nobody else.
  const Executor::Place place_;
  const absl::Time answer_time_;
};

}  // namespace

absl::Status VcpuHandler::LoadGuest(CallContext&,
                                    const v1::LoadGuestRequest& request,
                                    v1::LoadGuestResponse*) {
  TDP_ASSIGN_OR_RETURN(
      const VcpuName name,
      ParseVcpuName("name", request.name(), Wildcard::kAllowed));
  TDP_ASSIGN_OR_RETURN(const GuestConfig guest, GuestFrom(request.guest()));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(name.vm));
  return vm->LoadGuest(name.index, guest);
}

absl::Status VcpuHandler::GetVcpu(CallContext&,
                                  const v1::GetVcpuRequest& request,
                                  v1::GetVcpuResponse* response) {
  TDP_ASSIGN_OR_RETURN(
      const VcpuName name,
      ParseVcpuName("name", request.name(), Wildcard::kRefused));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(name.vm));
  TDP_ASSIGN_OR_RETURN(const VcpuInfo info, vm->GetVcpu(name.index));
  ToProto(name.vm, info, response->mutable_vcpu());
  return absl::OkStatus();
}

absl::Status VcpuHandler::ListVcpus(CallContext&,
                                    const v1::ListVcpusRequest& request,
                                    v1::ListVcpusResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "parent", request.parent()));
  TDP_ASSIGN_OR_RETURN(const size_t page_size,
                       ParsePageSize(request.page_size()));
  const std::string list = absl::StrCat(request.parent(), "/vcpus");
  TDP_ASSIGN_OR_RETURN(const std::optional<uint64_t> after,
                       ParseNumericPageToken(list, request.page_token()));
  PageBudget page(page_size);
  int last = 0;
  for (const VcpuInfo& info : vm->ListVcpus()) {
    if (after.has_value() && static_cast<uint64_t>(info.index) <= *after) {
      continue;
    }
    v1::Vcpu vcpu;
    ToProto(vm.id, info, &vcpu);
    if (!page.Take(vcpu.ByteSizeLong())) {
      response->set_next_page_token(MakePageToken(list, absl::StrCat(last)));
      break;
    }
    *response->add_vcpus() = std::move(vcpu);
    last = info.index;
  }
  return absl::OkStatus();
}

void VcpuHandler::WaitVcpu(CallContext& context,
                           const v1::WaitVcpuRequest& request,
                           v1::WaitVcpuResponse* response, Reply reply) {
  absl::StatusOr<VcpuName> name =
      ParseVcpuName("name", request.name(), Wildcard::kRefused);
  if (!name.ok()) return reply(name.status());
  absl::StatusOr<std::shared_ptr<Vm>> vm = registry_.FindVm(name->vm);
  if (!vm.ok()) return reply(vm.status());
  std::make_shared<VcpuWait>(context, *std::move(name), *std::move(vm),
                             executor_, response->mutable_vcpu(),
                             std::move(reply))
      ->Start();
}

}  // namespace tdp::server
