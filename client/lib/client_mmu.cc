// Client's calls of MmuService.

#include <algorithm>

#include "client/lib/age_sum.h"
#include "client/lib/audit_sum.h"
#include "client/lib/connection.h"

namespace tdp::client {
namespace {

constexpr int kDefaultMaxDivergences = 100;
// What AgeRange takes at most if it is asked for a bitmap.
constexpr uint64_t kMaxBitmapFrames = uint64_t{1} << 21;
constexpr uint64_t kFramesPer2M = 512;
static_assert(kMaxBitmapFrames % kFramesPer2M == 0);

// Where a call for a bitmap from `start` on ends. A huge mapping is aged whole,
// but only the frames of the call are reported, so no call ends inside one.
uint64_t EndOfBitmapCall(uint64_t start, uint64_t end) {
  if (end - start <= kMaxBitmapFrames) return end;
  const uint64_t limit = start + kMaxBitmapFrames;
  return limit - limit % kFramesPer2M;
}

}  // namespace

absl::StatusOr<v1::MapRangeResponse> Client::MapRange(
    const v1::MapRangeRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->mmu, &v1::MmuService::Stub::MapRange, request,
      &v1::MapRangeResponse::mapped_frame_count,
      &v1::MapRangeResponse::set_mapped_frame_count, on_frame);
}

absl::StatusOr<v1::ZapRangeResponse> Client::ZapRange(
    const v1::ZapRangeRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->mmu, &v1::MmuService::Stub::ZapRange, request,
      &v1::ZapRangeResponse::zapped_frame_count,
      &v1::ZapRangeResponse::set_zapped_frame_count, on_frame);
}

absl::StatusOr<v1::ProtectRangeResponse> Client::ProtectRange(
    const v1::ProtectRangeRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->mmu, &v1::MmuService::Stub::ProtectRange, request,
      &v1::ProtectRangeResponse::changed_spte_count,
      &v1::ProtectRangeResponse::set_changed_spte_count, on_frame);
}

absl::StatusOr<v1::WriteProtectRangeResponse> Client::WriteProtectRange(
    const v1::WriteProtectRangeRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->mmu, &v1::MmuService::Stub::WriteProtectRange, request,
      &v1::WriteProtectRangeResponse::changed_spte_count,
      &v1::WriteProtectRangeResponse::set_changed_spte_count, on_frame);
}

absl::StatusOr<v1::SplitHugePagesResponse> Client::SplitHugePages(
    const v1::SplitHugePagesRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->mmu, &v1::MmuService::Stub::SplitHugePages, request,
      &v1::SplitHugePagesResponse::split_count,
      &v1::SplitHugePagesResponse::set_split_count, on_frame);
}

absl::StatusOr<v1::CollapseHugePagesResponse> Client::CollapseHugePages(
    const v1::CollapseHugePagesRequest& request, OnFrame on_frame) {
  return connection_->SumRange(
      *connection_->mmu, &v1::MmuService::Stub::CollapseHugePages, request,
      &v1::CollapseHugePagesResponse::collapsed_count,
      &v1::CollapseHugePagesResponse::set_collapsed_count, on_frame);
}

absl::Status Client::AgeRange(const v1::AgeRangeRequest& request,
                              v1::AgeRangeResponse* sum, OnFrame on_frame) {
  sum->Clear();
  const FrameRange range = {request.range().start_gfn(),
                            request.range().end_gfn()};
  return CallUntilEnd(
      request,
      [&](v1::AgeRangeRequest part) {
        const uint64_t start = part.range().start_gfn();
        if (part.bitmap() && start < range.end_gfn) {
          part.mutable_range()->set_end_gfn(
              EndOfBitmapCall(start, range.end_gfn));
        }
        return connection_->Unary(*connection_->mmu,
                                  &v1::MmuService::Stub::AgeRange, part);
      },
      [&](const v1::AgeRangeResponse& part) {
        AddAge(part, range, *sum);
        on_frame(part.next_gfn());
      });
}

absl::StatusOr<v1::ApplyBatchResponse> Client::ApplyBatch(
    const v1::ApplyBatchRequest& request) {
  return connection_->Unary(*connection_->mmu,
                            &v1::MmuService::Stub::ApplyBatch, request);
}

absl::StatusOr<v1::AuditRangeResponse> Client::AuditRange(
    const v1::AuditRangeRequest& request, OnFrame on_frame) {
  const int limit = request.max_divergences() > 0 ? request.max_divergences()
                                                  : kDefaultMaxDivergences;
  v1::AuditRangeResponse sum;
  const absl::Status status = CallUntilEnd(
      request,
      [&](const v1::AuditRangeRequest& part) {
        return connection_->Unary(*connection_->mmu,
                                  &v1::MmuService::Stub::AuditRange, part);
      },
      [&](const v1::AuditRangeResponse& part) {
        AddAudit(part, limit, sum);
        on_frame(part.next_gfn());
      });
  if (!status.ok()) return status;
  return sum;
}

absl::StatusOr<v1::ZapAllResponse> Client::ZapAll(
    const v1::ZapAllRequest& request) {
  return connection_->Unary(*connection_->mmu, &v1::MmuService::Stub::ZapAll,
                            request);
}

absl::StatusOr<v1::WalkGfnResponse> Client::WalkGfn(
    const v1::WalkGfnRequest& request) {
  return connection_->Unary(*connection_->mmu, &v1::MmuService::Stub::WalkGfn,
                            request);
}

absl::StatusOr<v1::WalkFramesResponse> Client::WalkFrames(
    const v1::WalkFramesRequest& request) {
  return connection_->Unary(*connection_->mmu,
                            &v1::MmuService::Stub::WalkFrames, request);
}

absl::Status Client::WalkRange(const v1::WalkRangeRequest& request,
                               OnMessage<v1::WalkRangeResponse> on_message) {
  WalkProgress progress;
  return connection_->Stream(
      *connection_->mmu, &v1::MmuService::Stub::WalkRange, request, on_message,
      [&](v1::WalkRangeResponse& response, v1::WalkRangeRequest& next) {
        return progress.Advance(response, next);
      });
}

}  // namespace tdp::client
