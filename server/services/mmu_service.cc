#include "server/services/mmu_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/batch_convert.h"
#include "server/convert/common_convert.h"
#include "server/convert/mmu_convert.h"
#include "server/services/find_vm.h"
#include "server/services/operation_stream.h"
#include "server/services/work_budget.h"
#include "server/services/work_meter.h"

namespace tdp::server {
namespace {

// An entry takes at most some 60 bytes, so a message stays below 256 KiB.
constexpr size_t kWalkBatchEntries = 4096;

template <typename Request>
absl::StatusOr<GfnRange> RangeOf(const Request& request) {
  return RangeFrom("range", request.has_range(), request.range());
}

// Streams the entries of a range, one batch a message.
class WalkRangeSource final : public StreamSource<v1::WalkRangeResponse> {
 public:
  WalkRangeSource(std::shared_ptr<Vm> vm, GfnRange range,
                  const WalkRangeOptions& options)
      : vm_(std::move(vm)), range_(range), options_(options) {}

  absl::StatusOr<StreamStep> Next(CallContext& context,
                                  v1::WalkRangeResponse* message) override {
    if (options_.resume_gfn >= range_.end) return StreamStep::End();
    batch_.clear();
    WorkMeter meter(context,
                    {std::max(range_.start, options_.resume_gfn), range_.end});
    TDP_ASSIGN_OR_RETURN(
        const Gfn next,
        vm_->WalkRange(range_, options_, kWalkBatchEntries, batch_));
    if (next <= options_.resume_gfn) {
      return InternalError("a walk made no progress",
                           {{"gfn", Hex(next.value())}});
    }
    options_.resume_gfn = next;
    meter.AddChanged(static_cast<int64_t>(batch_.size()));
    message->mutable_sptes()->Reserve(static_cast<int>(batch_.size()));
    for (const SpteView& view : batch_) ToProto(view, message->add_sptes());
    message->set_next_gfn(next.value());
    return StreamStep::Send();
  }

 private:
  const std::shared_ptr<Vm> vm_;
  const GfnRange range_;
  WalkRangeOptions options_;  // resume_gfn: how far the walk came
  std::vector<SpteView> batch_;
};

}  // namespace

absl::Status MmuHandler::MapRange(CallContext& context,
                                  const v1::MapRangeRequest& request,
                                  v1::MapRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  TDP_ASSIGN_OR_RETURN(const int max_level,
                       SmallLevelFrom("max_level", request.max_level()));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(
      const RangeProgress progress,
      vm->MapRange(range, max_level, request.write(), BudgetOf(context)));
  meter.AddChanged(progress.changed);
  response->set_next_gfn(progress.next_gfn.value());
  response->set_mapped_frame_count(progress.changed);
  return absl::OkStatus();
}

absl::Status MmuHandler::ZapRange(CallContext& context,
                                  const v1::ZapRangeRequest& request,
                                  v1::ZapRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(const RangeProgress progress,
                       vm->ZapRange(range, BudgetOf(context)));
  meter.AddChanged(progress.changed);
  response->set_next_gfn(progress.next_gfn.value());
  response->set_zapped_frame_count(progress.changed);
  return absl::OkStatus();
}

absl::Status MmuHandler::ZapAll(CallContext&, const v1::ZapAllRequest& request,
                                v1::ZapAllResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const int root_count, vm->ZapAll(request.wait()));
  response->set_root_count(root_count);
  return absl::OkStatus();
}

absl::Status MmuHandler::ProtectRange(CallContext& context,
                                      const v1::ProtectRangeRequest& request,
                                      v1::ProtectRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  TDP_ASSIGN_OR_RETURN(
      const Access access,
      AccessFrom("access", request.has_access(), request.access()));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(const RangeProgress progress,
                       vm->ProtectRange(range, access, BudgetOf(context)));
  meter.AddChanged(progress.changed);
  response->set_next_gfn(progress.next_gfn.value());
  response->set_changed_spte_count(progress.changed);
  return absl::OkStatus();
}

absl::Status MmuHandler::WriteProtectRange(
    CallContext& context, const v1::WriteProtectRangeRequest& request,
    v1::WriteProtectRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  TDP_ASSIGN_OR_RETURN(const int min_level,
                       LevelNumberFrom("min_level", request.min_level()));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(
      const RangeProgress progress,
      vm->WriteProtectRange(range, min_level, BudgetOf(context)));
  meter.AddChanged(progress.changed);
  response->set_next_gfn(progress.next_gfn.value());
  response->set_changed_spte_count(progress.changed);
  return absl::OkStatus();
}

absl::Status MmuHandler::SplitHugePages(
    CallContext& context, const v1::SplitHugePagesRequest& request,
    v1::SplitHugePagesResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  TDP_ASSIGN_OR_RETURN(const int target_level,
                       LevelNumberFrom("target_level", request.target_level()));
  if (target_level == 0) {
    return FieldError("target_level", "", "PAGE_LEVEL_4K or PAGE_LEVEL_2M");
  }
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(
      const RangeProgress progress,
      vm->SplitHugePages(range, target_level, BudgetOf(context)));
  meter.AddChanged(progress.changed);
  response->set_next_gfn(progress.next_gfn.value());
  response->set_split_count(progress.changed);
  return absl::OkStatus();
}

absl::Status MmuHandler::CollapseHugePages(
    CallContext& context, const v1::CollapseHugePagesRequest& request,
    v1::CollapseHugePagesResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  TDP_ASSIGN_OR_RETURN(const int max_level,
                       LevelNumberFrom("max_level", request.max_level()));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(
      const RangeProgress progress,
      vm->CollapseHugePages(range, max_level, BudgetOf(context)));
  meter.AddChanged(progress.changed);
  response->set_next_gfn(progress.next_gfn.value());
  response->set_collapsed_count(progress.changed);
  return absl::OkStatus();
}

absl::Status MmuHandler::AgeRange(CallContext& context,
                                  const v1::AgeRangeRequest& request,
                                  v1::AgeRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  AgeOptions options;
  options.test_only = request.test_only();
  options.bitmap = request.bitmap();
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(const AgeResult result,
                       vm->AgeRange(range, options, BudgetOf(context)));
  meter.AddChanged(result.young_frame_count);
  ToProto(result, response);
  return absl::OkStatus();
}

absl::Status MmuHandler::ApplyBatch(CallContext& context,
                                    const v1::ApplyBatchRequest& request,
                                    v1::ApplyBatchResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const std::vector<BatchOperation> operations,
                       BatchFrom(request));
  WorkMeter meter(context);
  for (const BatchOperation& operation : operations) {
    meter.Begin(operation.range);
  }
  TDP_ASSIGN_OR_RETURN(const BatchResult result, vm->ApplyBatch(operations));
  meter.AddChanged(result.changed_spte_count);
  response->set_changed_spte_count(result.changed_spte_count);
  ToProto(result.hold_duration, response->mutable_hold_duration());
  return absl::OkStatus();
}

absl::Status MmuHandler::AuditRange(CallContext& context,
                                    const v1::AuditRangeRequest& request,
                                    v1::AuditRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(
      const AuditResult result,
      vm->AuditRange(range, request.max_divergences(), BudgetOf(context)));
  ToProto(result, response);
  return absl::OkStatus();
}

absl::Status MmuHandler::WalkGfn(CallContext&,
                                 const v1::WalkGfnRequest& request,
                                 v1::WalkGfnResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const std::vector<SpteView> path,
                       vm->WalkGfn(Gfn(request.gfn())));
  for (const SpteView& view : path) ToProto(view, response->add_sptes());
  return absl::OkStatus();
}

absl::Status MmuHandler::WalkFrames(CallContext& context,
                                    const v1::WalkFramesRequest& request,
                                    v1::WalkFramesResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  if (request.gfns().empty() || request.gfns_size() > limits::kMaxWalkFrames) {
    return FieldError("gfns", absl::StrCat(request.gfns_size(), " frames"),
                      absl::StrCat("1 to ", limits::kMaxWalkFrames, " frames"));
  }
  TDP_ASSIGN_OR_RETURN(WalkFramesResult result,
                       vm->WalkFrames(absl::MakeConstSpan(
                           request.gfns().data(), request.gfns().size())));
  context.AddWork(request.gfns_size());
  response->mutable_raw_sptes()->Add(result.raw_sptes.begin(),
                                     result.raw_sptes.end());
  response->set_levels(std::move(result.levels));
  return absl::OkStatus();
}

bool MmuHandler::IsLongWalk(const v1::WalkFramesRequest& request) {
  return request.gfns_size() > kMaxFramesInPlace;
}

absl::StatusOr<std::unique_ptr<StreamSource<v1::WalkRangeResponse>>>
MmuHandler::WalkRange(CallContext&, const v1::WalkRangeRequest& request) {
  TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const GfnRange range, RangeOf(request));
  WalkRangeOptions options;
  TDP_ASSIGN_OR_RETURN(
      options.min_level,
      LevelFrom("min_level", request.min_level(), PageLevel::k4K));
  options.leaves_only = request.leaves_only();
  options.present_only = request.present_only();
  return std::make_unique<WalkRangeSource>(std::move(vm.vm), range, options);
}

absl::StatusOr<std::unique_ptr<
    StreamAnswerer<v1::StreamOperationsRequest, v1::StreamOperationsResponse>>>
MmuHandler::StreamOperations(CallContext&) {
  return std::make_unique<OperationStream>(registry_);
}

}  // namespace tdp::server
