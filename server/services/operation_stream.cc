#include "server/services/operation_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"
#include "server/convert/mmu_convert.h"
#include "server/convert/status.h"
#include "server/convert/text.h"
#include "server/services/find_vm.h"
#include "server/services/work_budget.h"
#include "server/services/work_meter.h"

namespace tdp::server {
namespace {

using OperationCase = v1::StreamOperation::OperationCase;

// Walked and answered in a tenth of a millisecond.
constexpr int kMaxWalksInPlace = 256;

}  // namespace

bool OperationStream::IsLong(const v1::StreamOperationsRequest& message) {
  if (message.operations_size() > kMaxWalksInPlace) return true;
  return std::any_of(message.operations().begin(), message.operations().end(),
                     [](const v1::StreamOperation& operation) {
                       return operation.operation_case() !=
                              OperationCase::kWalkGfn;
                     });
}

absl::Status OperationStream::Answer(CallContext& context,
                                     const v1::StreamOperationsRequest& message,
                                     v1::StreamOperationsResponse* response) {
  TDP_RETURN_IF_ERROR(BindVm(message.vm()));
  if (message.operations_size() > limits::kMaxStreamOperations) {
    return FieldError("operations",
                      absl::StrCat(message.operations_size(), " operations"),
                      absl::StrCat("at most ", limits::kMaxStreamOperations,
                                   " operations in one message"));
  }
  WorkMeter meter(context);
  return Run(context, message, response, meter);
}

absl::Status OperationStream::BindVm(const std::string& name) {
  if (vm_ == nullptr) {
    TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", name));
    vm_ = std::move(vm.vm);
    name_ = name;
    return absl::OkStatus();
  }
  if (name.empty() || name == name_) return absl::OkStatus();
  return FieldError(
      "vm", Shown(name),
      absl::StrCat("empty or ", name_, ", which the first message named"));
}

absl::Status OperationStream::Run(CallContext& context,
                                  const v1::StreamOperationsRequest& message,
                                  v1::StreamOperationsResponse* response,
                                  WorkMeter& meter) {
  budget_ = BudgetOf(context);
  budget_end_ = absl::Now() + budget_.time;
  const int count = message.operations_size();
  response->mutable_results()->Reserve(count);
  for (int i = 0; i < count;) {
    const v1::StreamOperation& operation = message.operations(i);
    if (operation.operation_case() == OperationCase::kWalkGfn) {
      TDP_ASSIGN_OR_RETURN(const int walked, WalkRun(message, i, response));
      meter.AddWalked(walked);
      i += walked;
      continue;
    }
    TDP_RETURN_IF_ERROR(context.CheckAlive());
    v1::StreamResult* result = response->add_results();
    const absl::StatusOr<RangeProgress> progress = Change(operation, meter);
    if (progress.ok()) {
      result->set_changed_count(progress->changed);
      result->set_next_gfn(progress->next_gfn.value());
    } else if (absl::IsNotFound(progress.status())) {
      return progress.status();
    } else {
      *result->mutable_error() = ToRpcStatus(progress.status());
    }
    ++i;
  }
  return absl::OkStatus();
}

absl::StatusOr<int> OperationStream::WalkRun(
    const v1::StreamOperationsRequest& message, int first,
    v1::StreamOperationsResponse* response) {
  gfns_.clear();
  for (int i = first; i < message.operations_size(); ++i) {
    const v1::StreamOperation& operation = message.operations(i);
    if (operation.operation_case() != OperationCase::kWalkGfn) break;
    gfns_.push_back(operation.walk_gfn());
  }
  const absl::Status viewed = vm_->ViewFrames(gfns_, views_);
  if (viewed.ok()) {
    for (const SpteView& view : views_) {
      ToProto(view, response->add_results()->mutable_spte());
    }
    return static_cast<int>(gfns_.size());
  }
  // One of them at least is no good, and the others do not know it.
  for (const uint64_t gfn : gfns_) {
    v1::StreamResult* result = response->add_results();
    const absl::StatusOr<std::vector<SpteView>> path = vm_->WalkGfn(Gfn(gfn));
    if (path.ok()) {
      ToProto(path->back(), result->mutable_spte());
    } else if (absl::IsNotFound(path.status())) {
      return path.status();
    } else {
      *result->mutable_error() = ToRpcStatus(path.status());
    }
  }
  return static_cast<int>(gfns_.size());
}

template <typename Request>
absl::StatusOr<GfnRange> OperationStream::Begin(const Request& request,
                                                WorkMeter& meter) {
  TDP_ASSIGN_OR_RETURN(
      const GfnRange range,
      RangeFrom("range", request.has_range(), request.range()));
  // One frame is done, or not, whatever time is left.
  if (range.end != range.start + 1) {
    budget_.time = std::max(budget_end_ - absl::Now(), absl::ZeroDuration());
  }
  meter.Begin(range);
  return range;
}

absl::StatusOr<RangeProgress> OperationStream::Change(
    const v1::StreamOperation& operation, WorkMeter& meter) {
  GfnRange range;
  absl::StatusOr<RangeProgress> progress = RangeProgress();
  switch (operation.operation_case()) {
    case OperationCase::kMap: {
      const v1::MapRangeRequest& request = operation.map();
      TDP_ASSIGN_OR_RETURN(range, Begin(request, meter));
      TDP_ASSIGN_OR_RETURN(const int max_level,
                           SmallLevelFrom("max_level", request.max_level()));
      progress = vm_->MapRange(range, max_level, request.write(), budget_);
      break;
    }
    case OperationCase::kZap: {
      TDP_ASSIGN_OR_RETURN(range, Begin(operation.zap(), meter));
      progress = vm_->ZapRange(range, budget_);
      break;
    }
    case OperationCase::kWriteProtect: {
      const v1::WriteProtectRangeRequest& request = operation.write_protect();
      TDP_ASSIGN_OR_RETURN(range, Begin(request, meter));
      TDP_ASSIGN_OR_RETURN(const int min_level,
                           LevelNumberFrom("min_level", request.min_level()));
      progress = vm_->WriteProtectRange(range, min_level, budget_);
      break;
    }
    case OperationCase::kAge: {
      const v1::AgeRangeRequest& request = operation.age();
      TDP_ASSIGN_OR_RETURN(range, Begin(request, meter));
      if (request.bitmap()) {
        return FieldError("bitmap", "true",
                          "false: a stream answers with the number of frames; "
                          "AgeRange gives a bitmap");
      }
      TDP_ASSIGN_OR_RETURN(
          const AgeResult aged,
          vm_->AgeRange(range, {.test_only = request.test_only()}, budget_));
      progress = RangeProgress{aged.next_gfn, aged.young_frame_count};
      break;
    }
    default:
      return FieldError("operation", "",
                        "walk_gfn, map, zap, write_protect or age");
  }
  if (progress.ok()) meter.AddChanged(progress->changed);
  return progress;
}

}  // namespace tdp::server
