// What handlers of many frames report as their work, and that they give up soon
// after their caller did.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "server/base/monotonic_time.h"
#include "server/services/dirty_log_service.h"
#include "server/services/guest_memory_service.h"
#include "server/services/mmu_service.h"
#include "server/services/operation_stream.h"
#include "server/services/work_meter.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

constexpr char kVm[] = "vms/a";
constexpr int64_t kFrames = 64;

class WorkTest : public testing::Test {
 protected:
  WorkTest() {
    MemslotConfig config;
    config.frame_count = kFrames;
    config.dirty_log_enabled = true;
    EXPECT_TRUE(fake_->CreateMemslot("ram", config, false).ok());
  }

  template <typename Request>
  static Request WithRange(int64_t frames) {
    Request request;
    request.set_vm(kVm);
    request.mutable_range()->set_end_gfn(static_cast<uint64_t>(frames));
    return request;
  }
  // What the calls since the last time reported.
  int64_t Work() {
    const int64_t before = seen_;
    seen_ = context_.work();
    return seen_ - before;
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  MmuHandler mmu_{registry_};
  GuestMemoryHandler memory_{registry_};
  DirtyLogHandler dirty_log_{registry_};
  CallContext context_;
  int64_t seen_ = 0;
};

TEST_F(WorkTest, RangedCallsReportTheFramesThatTheyChanged) {
  v1::MapRangeResponse mapped;
  ASSERT_TRUE(
      mmu_.MapRange(context_, WithRange<v1::MapRangeRequest>(10), &mapped)
          .ok());
  EXPECT_EQ(Work(), 10);
  v1::ZapRangeResponse zapped;
  ASSERT_TRUE(
      mmu_.ZapRange(context_, WithRange<v1::ZapRangeRequest>(kFrames), &zapped)
          .ok());
  const int64_t zap_work = Work();
  EXPECT_GE(zap_work, 10) << "of 64, those that were mapped";
  EXPECT_LE(zap_work, kFrames);

  fake_->SetVerbHookForTest(
      [](const FakeVm::VerbCall& call) -> absl::StatusOr<FakeVm::VerbAnswer> {
        return FakeVm::VerbAnswer{.next_gfn = call.range.end, .changed = 7};
      });
  v1::WriteProtectRangeResponse protected_frames;
  ASSERT_TRUE(mmu_.WriteProtectRange(
                      context_, WithRange<v1::WriteProtectRangeRequest>(20),
                      &protected_frames)
                  .ok());
  const int64_t work = Work();
  EXPECT_GE(work, 7);
  EXPECT_LE(work, 20);
}

// Works for a thousandth of a second and changes nothing.
absl::StatusOr<FakeVm::VerbAnswer> WorkForNothing(
    const FakeVm::VerbCall& call) {
  const int64_t end = ThreadNanoseconds() + 1'000'000;
  while (ThreadNanoseconds() < end) {
  }
  return FakeVm::VerbAnswer{.next_gfn = call.range.end};
}

TEST_F(WorkTest, WhatChangesNothingCostsItsTimeButNoMoreThanItsRange) {
  fake_->SetVerbHookForTest(WorkForNothing);
  v1::WriteProtectRangeResponse response;
  const auto protect = [&](int64_t frames) {
    const auto request = WithRange<v1::WriteProtectRangeRequest>(frames);
    EXPECT_TRUE(mmu_.WriteProtectRange(context_, request, &response).ok());
    return Work();
  };
  EXPECT_EQ(protect(100), 100);
  EXPECT_GE(protect(int64_t{1} << 30), WorkMeter::kFramesPerSecond / 1000);
}

TEST_F(WorkTest, AnEmptyTebibyteCostsTheTimeThatItTakes) {
  const int64_t start = ThreadNanoseconds();
  v1::ZapRangeResponse response;
  const auto request = WithRange<v1::ZapRangeRequest>(int64_t{1} << 36);
  ASSERT_TRUE(mmu_.ZapRange(context_, request, &response).ok());
  OperationStream stream(registry_);
  v1::StreamOperationsRequest message;
  message.set_vm(kVm);
  for (int i = 0; i < 4; ++i)
    *message.add_operations()->mutable_zap() = request;
  v1::StreamOperationsResponse answers;
  ASSERT_TRUE(stream.Answer(context_, message, &answers).ok());
  const int64_t elapsed = ThreadNanoseconds() - start;
  EXPECT_LE(Work(), elapsed * (WorkMeter::kFramesPerSecond / 1'000'000) / 1000);
}

TEST_F(WorkTest, WalksReportWhatTheyFound) {
  v1::WalkFramesRequest request;
  request.set_vm(kVm);
  for (uint64_t gfn = 0; gfn < 5; ++gfn) request.add_gfns(gfn);
  v1::WalkFramesResponse response;
  ASSERT_TRUE(mmu_.WalkFrames(context_, request, &response).ok());
  EXPECT_EQ(Work(), 5);

  auto source =
      mmu_.WalkRange(context_, WithRange<v1::WalkRangeRequest>(kFrames));
  ASSERT_TRUE(source.ok());
  v1::WalkRangeResponse message;
  ASSERT_TRUE((*source)->Next(context_, &message).ok());
  const int64_t work = Work();
  EXPECT_GE(work, message.sptes_size());
  EXPECT_LE(work, kFrames);
}

TEST_F(WorkTest, GuestMemoryIsReportedInFramesAsItGoes) {
  v1::ReadGuestMemoryRequest request;
  request.set_vm(kVm);
  request.set_size_bytes(3 * 4096 + 1);
  auto source = memory_.ReadGuestMemory(context_, request);
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(Work(), 0);
  v1::ReadGuestMemoryResponse message;
  ASSERT_TRUE((*source)->Next(context_, &message).ok());
  EXPECT_EQ(Work(), 4);
  auto sink = memory_.WriteGuestMemory(context_);
  ASSERT_TRUE(sink.ok());
  v1::WriteGuestMemoryRequest write;
  write.set_vm(kVm);
  write.set_data("x");
  ASSERT_TRUE((*sink)->Take(context_, write).ok());
  EXPECT_EQ(Work(), 1);
}

TEST_F(WorkTest, DirtyLogsReportTheFramesThatWereDirty) {
  fake_->MarkDirtyForTest(Gfn(3));
  fake_->MarkDirtyForTest(Gfn(5));
  v1::ReadDirtyLogRequest request;
  request.set_memslot("vms/a/memslots/ram");
  auto source = dirty_log_.ReadDirtyLog(context_, request);
  ASSERT_TRUE(source.ok());
  v1::ReadDirtyLogResponse message;
  ASSERT_TRUE((*source)->Next(context_, &message).ok());
  const int64_t read_work = Work();
  EXPECT_GE(read_work, 2);
  EXPECT_LE(read_work, kFrames);
  auto sink = dirty_log_.ClearDirtyLog(context_);
  ASSERT_TRUE(sink.ok());
  v1::ClearDirtyLogRequest clear;
  clear.set_memslot("vms/a/memslots/ram");
  *clear.mutable_dirty() = message.dirty();
  ASSERT_TRUE((*sink)->Take(context_, clear).ok());
  const int64_t clear_work = Work();
  EXPECT_GE(clear_work, 2);
  EXPECT_LE(clear_work, kFrames);
}

// A message whose bits need thousands of host calls is cleared in pieces.
TEST_F(WorkTest, ACancelledClearEndsBeforeItsMessageIsDone) {
  MemslotConfig config;
  config.base_gfn = Gfn(1 << 20);
  config.frame_count = 1 << 16;
  config.dirty_log_enabled = true;
  ASSERT_TRUE(fake_->CreateMemslot("big", config, false).ok());
  v1::ClearDirtyLogRequest clear;
  clear.set_memslot("vms/a/memslots/big");
  clear.mutable_dirty()->set_first_gfn(1 << 20);
  clear.mutable_dirty()->set_frame_count(1 << 16);
  clear.mutable_dirty()->set_bits(std::string(1 << 13, '\x55'));
  for (uint64_t gfn = 0; gfn < 1 << 16; gfn += 2) {
    fake_->MarkDirtyForTest(Gfn((1 << 20) + gfn));
  }
  auto sink = dirty_log_.ClearDirtyLog(context_);
  ASSERT_TRUE(sink.ok());
  ASSERT_TRUE((*sink)->Take(context_, clear).ok());
  v1::ClearDirtyLogResponse response;
  ASSERT_TRUE((*sink)->End(context_, &response).ok());
  EXPECT_EQ(response.cleared_frame_count(), 1 << 15)
      << "the pieces make up the whole";

  CallContext cancelled;
  auto second = dirty_log_.ClearDirtyLog(cancelled);
  ASSERT_TRUE(second.ok());
  cancelled.Cancel();
  EXPECT_TRUE(absl::IsCancelled((*second)->Take(cancelled, clear)));
}

TEST_F(WorkTest, AClearedMessageOfOneRunIsOnePiece) {
  v1::ClearDirtyLogRequest clear;
  clear.set_memslot("vms/a/memslots/ram");
  clear.mutable_dirty()->set_frame_count(60);
  clear.mutable_dirty()->set_bits(std::string(8, '\xff'));
  for (uint64_t gfn = 0; gfn < 64; ++gfn) fake_->MarkDirtyForTest(Gfn(gfn));
  auto sink = dirty_log_.ClearDirtyLog(context_);
  ASSERT_TRUE(sink.ok());
  ASSERT_TRUE((*sink)->Take(context_, clear).ok());
  v1::ClearDirtyLogResponse response;
  ASSERT_TRUE((*sink)->End(context_, &response).ok());
  EXPECT_EQ(response.cleared_frame_count(), 60);
}

}  // namespace
}  // namespace tdp::server
