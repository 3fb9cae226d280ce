// MmuHandler and GuestMemoryHandler against the fake.

#include "server/services/mmu_service.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "server/services/guest_memory_service.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

class MmuServiceTest : public testing::Test {
 protected:
  MmuServiceTest() {
    MemslotConfig config;
    config.frame_count = 20000;
    EXPECT_TRUE(fake_->CreateMemslot("ram", config, false).ok());
  }

  static v1::MapRangeRequest MapRequest(uint64_t start, uint64_t end) {
    v1::MapRangeRequest request;
    request.set_vm("vms/a");
    request.mutable_range()->set_start_gfn(start);
    request.mutable_range()->set_end_gfn(end);
    return request;
  }

  absl::Status Map(uint64_t start, uint64_t end) {
    return mmu_.MapRange(context_, MapRequest(start, end), &mapped_);
  }

  // Every entry of a walk; fails the test if a message is too large.
  absl::StatusOr<std::vector<v1::Spte>> Walk(
      const v1::WalkRangeRequest& request, int* message_count = nullptr) {
    auto source = mmu_.WalkRange(context_, request);
    if (!source.ok()) return source.status();
    std::vector<v1::Spte> entries;
    while (true) {
      v1::WalkRangeResponse message;
      const auto step = (*source)->Next(context_, &message);
      if (!step.ok()) return step.status();
      if (step->kind == StreamStep::Kind::kEnd) return entries;
      EXPECT_EQ(step->kind, StreamStep::Kind::kSend);
      EXPECT_LE(message.ByteSizeLong(), 256u << 10);
      if (message_count != nullptr) ++*message_count;
      entries.insert(entries.end(), message.sptes().begin(),
                     message.sptes().end());
    }
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  CallContext context_;
  MmuHandler mmu_{registry_};
  GuestMemoryHandler memory_{registry_};
  v1::MapRangeResponse mapped_;
};

TEST_F(MmuServiceTest, MapsZapsAndAudits) {
  ASSERT_TRUE(Map(10, 20).ok());
  EXPECT_EQ(mapped_.mapped_frame_count(), 10);
  EXPECT_EQ(mapped_.next_gfn(), 20u);
  v1::AuditRangeRequest audit;
  audit.set_vm("vms/a");
  *audit.mutable_range() = MapRequest(0, 100).range();
  audit.set_max_divergences(4);
  v1::AuditRangeResponse audited;
  ASSERT_TRUE(mmu_.AuditRange(context_, audit, &audited).ok());
  EXPECT_EQ(audited.compared_frame_count(), 10);
  EXPECT_EQ(audited.divergences_size(), 4);
  v1::ZapRangeRequest zap;
  zap.set_vm("vms/a");
  *zap.mutable_range() = MapRequest(15, 100).range();
  v1::ZapRangeResponse zapped;
  ASSERT_TRUE(mmu_.ZapRange(context_, zap, &zapped).ok());
  EXPECT_EQ(zapped.zapped_frame_count(), 5);
  EXPECT_EQ(zapped.next_gfn(), 100u);
  v1::ZapAllRequest all;
  all.set_vm("vms/a");
  v1::ZapAllResponse done;
  ASSERT_TRUE(mmu_.ZapAll(context_, all, &done).ok());
  EXPECT_EQ(done.root_count(), 1);
  EXPECT_EQ(fake_->Stats().leaf_4k_count, 0);
}

TEST_F(MmuServiceTest, RefusesBadRangesAndChangesNothing) {
  EXPECT_EQ(FieldErrorOf(Map(5, 5)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(FieldErrorOf(Map(6, 5)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(FieldErrorOf(Map(kMax, 0)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(FieldErrorOf(Map(kMax - 1, kMax)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(FieldErrorOf(Map(0, uint64_t{1} << 52)),
            "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(ReasonOf(Map(19999, 20001)), "GFN_NOT_BACKED");
  v1::MapRangeRequest no_range;
  no_range.set_vm("vms/a");
  EXPECT_EQ(FieldErrorOf(mmu_.MapRange(context_, no_range, &mapped_)),
            "FIELD_INVALID range");
  v1::MapRangeRequest other_vm = MapRequest(0, 1);
  other_vm.set_vm("vms/b");
  EXPECT_EQ(ReasonOf(mmu_.MapRange(context_, other_vm, &mapped_)),
            "RESOURCE_NOT_FOUND");
  other_vm.set_vm("b");
  EXPECT_EQ(FieldErrorOf(mmu_.MapRange(context_, other_vm, &mapped_)),
            "FIELD_INVALID vm");
  EXPECT_EQ(fake_->Stats().leaf_4k_count, 0);
}

TEST_F(MmuServiceTest, RefusesLevelsThatMapRangeDoesNotTake) {
  v1::MapRangeRequest request = MapRequest(0, 1);
  for (int level : {3, 4, 5, 99, -1}) {
    request.set_max_level(static_cast<v1::PageLevel>(level));
    EXPECT_EQ(FieldErrorOf(mmu_.MapRange(context_, request, &mapped_)),
              "FIELD_INVALID max_level")
        << level;
  }
  for (int level : {0, 1, 2}) {
    request.set_max_level(static_cast<v1::PageLevel>(level));
    EXPECT_TRUE(mmu_.MapRange(context_, request, &mapped_).ok()) << level;
  }
}

TEST_F(MmuServiceTest, GivesTheEngineWhatIsLeftOfTheCallsTime) {
  absl::Duration time;
  bool cancelled = false;
  fake_->SetMapHookForTest([&](const WorkBudget& budget) {
    time = budget.time;
    cancelled = budget.cancelled();
  });
  ASSERT_TRUE(Map(0, 1).ok());
  EXPECT_EQ(time, absl::Milliseconds(50));
  EXPECT_FALSE(cancelled);
  context_.set_deadline(absl::Now() + absl::Milliseconds(20));
  ASSERT_TRUE(Map(0, 1).ok());
  EXPECT_LE(time, absl::Milliseconds(20));
  context_.set_deadline(absl::InfiniteFuture());
  context_.Cancel();
  ASSERT_TRUE(Map(0, 1).ok());
  EXPECT_TRUE(cancelled);
}

TEST_F(MmuServiceTest, RefusesANegativeNumberOfDivergences) {
  v1::AuditRangeRequest audit;
  audit.set_vm("vms/a");
  *audit.mutable_range() = MapRequest(0, 1).range();
  audit.set_max_divergences(-1);
  v1::AuditRangeResponse audited;
  EXPECT_EQ(FieldErrorOf(mmu_.AuditRange(context_, audit, &audited)),
            "FIELD_INVALID max_divergences");
}

TEST_F(MmuServiceTest, WalksOneFrameFromRootToLeaf) {
  ASSERT_TRUE(Map(7, 8).ok());
  v1::WalkGfnRequest request;
  request.set_vm("vms/a");
  request.set_gfn(7);
  v1::WalkGfnResponse response;
  ASSERT_TRUE(mmu_.WalkGfn(context_, request, &response).ok());
  ASSERT_EQ(response.sptes_size(), 4);
  EXPECT_EQ(response.sptes(0).level(), v1::PAGE_LEVEL_512G);
  EXPECT_TRUE(response.sptes(3).leaf());
  EXPECT_EQ(response.sptes(3).pfn(), 7u);
  request.set_gfn(kMax);
  EXPECT_EQ(FieldErrorOf(mmu_.WalkGfn(context_, request, &response)),
            "FIELD_INVALID gfn");
}

TEST_F(MmuServiceTest, StreamsAWalkInBatches) {
  v1::WalkRangeRequest request;
  request.set_vm("vms/a");
  *request.mutable_range() = MapRequest(0, 10000).range();
  int message_count = 0;
  const auto all = Walk(request, &message_count);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 10000u);
  EXPECT_EQ(all->back().base_gfn(), 9999u);
  EXPECT_EQ(message_count, 3);
  ASSERT_TRUE(Map(100, 110).ok());
  request.set_present_only(true);
  EXPECT_EQ(Walk(request)->size(), 10u);
}

TEST_F(MmuServiceTest, RefusesBadWalks) {
  v1::WalkRangeRequest request;
  request.set_vm("vms/a");
  EXPECT_EQ(FieldErrorOf(Walk(request).status()), "FIELD_INVALID range");
  *request.mutable_range() = MapRequest(3, 2).range();
  EXPECT_EQ(FieldErrorOf(Walk(request).status()),
            "FIELD_INVALID range.end_gfn");
  *request.mutable_range() = MapRequest(0, 1).range();
  request.set_min_level(static_cast<v1::PageLevel>(-1));
  EXPECT_EQ(FieldErrorOf(Walk(request).status()), "FIELD_INVALID min_level");
  request.set_min_level(v1::PAGE_LEVEL_256T);
  EXPECT_TRUE(Walk(request).ok());
  *request.mutable_range() = MapRequest(0, kMax).range();
  EXPECT_EQ(FieldErrorOf(Walk(request).status()),
            "FIELD_INVALID range.end_gfn");
}

TEST_F(MmuServiceTest, WalksManyFramesAtOnce) {
  ASSERT_TRUE(Map(1, 2).ok());
  v1::WalkFramesRequest request;
  request.set_vm("vms/a");
  v1::WalkFramesResponse response;
  EXPECT_EQ(FieldErrorOf(mmu_.WalkFrames(context_, request, &response)),
            "FIELD_INVALID gfns");
  for (uint64_t gfn : {1, 0, 1}) request.add_gfns(gfn);
  ASSERT_TRUE(mmu_.WalkFrames(context_, request, &response).ok());
  ASSERT_EQ(response.raw_sptes_size(), 3);
  EXPECT_EQ(response.raw_sptes(0), response.raw_sptes(2));
  EXPECT_NE(response.raw_sptes(0), response.raw_sptes(1));
  EXPECT_EQ(response.levels(), std::string(3, '\1'));
  EXPECT_FALSE(MmuHandler::IsLongWalk(request));
  while (request.gfns_size() < 65536) request.add_gfns(0);
  EXPECT_TRUE(MmuHandler::IsLongWalk(request));
  EXPECT_TRUE(mmu_.WalkFrames(context_, request, &response).ok());
  request.add_gfns(0);
  EXPECT_EQ(FieldErrorOf(mmu_.WalkFrames(context_, request, &response)),
            "FIELD_INVALID gfns");
}

v1::ReadGuestMemoryRequest ReadRequest(uint64_t gpa, int64_t size) {
  v1::ReadGuestMemoryRequest request;
  request.set_vm("vms/a");
  request.set_gpa(gpa);
  request.set_size_bytes(size);
  return request;
}

TEST_F(MmuServiceTest, ReadsMemoryInChunks) {
  ASSERT_TRUE(fake_->WriteMemory(Gpa(5), "hello").ok());
  auto source = memory_.ReadGuestMemory(context_, ReadRequest(5, 600000));
  ASSERT_TRUE(source.ok()) << source.status();
  std::string bytes;
  while (true) {
    v1::ReadGuestMemoryResponse message;
    const auto step = (*source)->Next(context_, &message);
    ASSERT_TRUE(step.ok());
    if (step->kind == StreamStep::Kind::kEnd) break;
    EXPECT_EQ(message.gpa(), 5 + bytes.size());
    EXPECT_LE(message.data().size(), 1u << 18);
    bytes += message.data();
  }
  EXPECT_EQ(bytes.size(), 600000u);
  EXPECT_EQ(bytes.substr(0, 6), std::string("hello\0", 6));
}

TEST_F(MmuServiceTest, RefusesBadReads) {
  const auto error = [&](uint64_t gpa, int64_t size) {
    return FieldErrorOf(
        memory_.ReadGuestMemory(context_, ReadRequest(gpa, size)).status());
  };
  EXPECT_EQ(error(0, 0), "FIELD_INVALID size_bytes");
  EXPECT_EQ(error(0, -1), "FIELD_INVALID size_bytes");
  EXPECT_EQ(error(kMax, 2), "FIELD_INVALID size_bytes");
  EXPECT_EQ(error(kMax - 10, std::numeric_limits<int64_t>::max()),
            "FIELD_INVALID size_bytes");
  EXPECT_EQ(error(kMax, 1), "GFN_NOT_BACKED");
  EXPECT_EQ(error(20000 * 4096 - 1, 2), "GFN_NOT_BACKED");
}

v1::WriteGuestMemoryRequest Chunk(const std::string& vm, uint64_t gpa,
                                  std::string data) {
  v1::WriteGuestMemoryRequest chunk;
  chunk.set_vm(vm);
  chunk.set_gpa(gpa);
  chunk.set_data(std::move(data));
  return chunk;
}

TEST_F(MmuServiceTest, WritesChunks) {
  auto sink = *memory_.WriteGuestMemory(context_);
  EXPECT_TRUE(sink->Take(context_, Chunk("vms/a", 0, "one")).ok());
  EXPECT_TRUE(sink->Take(context_, Chunk("", 3, "two")).ok());
  EXPECT_TRUE(sink->Take(context_, Chunk("vms/a", 99, "")).ok());
  v1::WriteGuestMemoryResponse response;
  ASSERT_TRUE(sink->End(context_, &response).ok());
  EXPECT_EQ(response.written_bytes(), 6);
  EXPECT_EQ(*fake_->ReadMemory(Gpa(0), 6), "onetwo");
}

TEST_F(MmuServiceTest, SaysHowMuchOfAFailedWriteIsInMemory) {
  auto sink = *memory_.WriteGuestMemory(context_);
  ASSERT_TRUE(sink->Take(context_, Chunk("vms/a", 0, "12345")).ok());
  fake_->FailWriteAfterForTest(2);
  const absl::Status status = sink->Take(context_, Chunk("", 5, "6789"));
  EXPECT_EQ(ReasonOf(status), "HOST_MEMORY_EXHAUSTED");
  EXPECT_EQ(MetadataOf(status, "writtenBytes"), "7");
  EXPECT_NE(status.message().find("7 bytes"), absl::string_view::npos);
  const absl::Status unbacked =
      sink->Take(context_, Chunk("", uint64_t{1} << 40, "x"));
  EXPECT_EQ(ReasonOf(unbacked), "GFN_NOT_BACKED");
  EXPECT_EQ(MetadataOf(unbacked, "writtenBytes"), "5");
}

TEST_F(MmuServiceTest, RefusesBadWrites) {
  const auto first_error = [&](const v1::WriteGuestMemoryRequest& chunk) {
    auto sink = *memory_.WriteGuestMemory(context_);
    return FieldErrorOf(sink->Take(context_, chunk));
  };
  EXPECT_EQ(first_error(Chunk("", 0, "x")), "FIELD_INVALID vm");
  EXPECT_EQ(first_error(Chunk("vms/b", 0, "x")), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(first_error(Chunk("vms/a", kMax, "xx")), "FIELD_INVALID data");
  EXPECT_EQ(first_error(Chunk("vms/a", 0, std::string((1 << 20) + 1, 'x'))),
            "FIELD_INVALID data");
  auto sink = *memory_.WriteGuestMemory(context_);
  v1::WriteGuestMemoryResponse response;
  EXPECT_EQ(FieldErrorOf(sink->End(context_, &response)), "FIELD_INVALID vm");
  ASSERT_TRUE(sink->Take(context_, Chunk("vms/a", 0, "x")).ok());
  EXPECT_EQ(FieldErrorOf(sink->Take(context_, Chunk("vms/b", 1, "x"))),
            "FIELD_INVALID vm");
}

v1::DiscardRangeRequest DiscardRequest(uint64_t start, uint64_t end) {
  v1::DiscardRangeRequest request;
  request.set_vm("vms/a");
  request.mutable_range()->set_start_gfn(start);
  request.mutable_range()->set_end_gfn(end);
  return request;
}

TEST_F(MmuServiceTest, DiscardsARange) {
  ASSERT_TRUE(Map(10, 20).ok());
  ASSERT_TRUE(fake_->WriteMemory(Gpa(12 * 4096), "bytes").ok());
  v1::DiscardRangeResponse response;
  ASSERT_TRUE(
      memory_.DiscardRange(context_, DiscardRequest(12, 15), &response).ok());
  EXPECT_EQ(response.next_gfn(), 15u);
  EXPECT_EQ(response.freed_bytes(), 3 * 4096);
  EXPECT_EQ(fake_->Stats().leaf_4k_count, 7);
  EXPECT_EQ(*fake_->ReadMemory(Gpa(12 * 4096), 5), std::string(5, '\0'));
  ASSERT_TRUE(
      memory_.DiscardRange(context_, DiscardRequest(12, 15), &response).ok());
  EXPECT_EQ(response.freed_bytes(), 0) << "again";
}

TEST_F(MmuServiceTest, RefusesBadDiscardsAndChangesNothing) {
  ASSERT_TRUE(Map(0, 20000).ok());
  v1::DiscardRangeResponse response;
  const auto error = [&](const v1::DiscardRangeRequest& request) {
    return FieldErrorOf(memory_.DiscardRange(context_, request, &response));
  };
  EXPECT_EQ(error(DiscardRequest(5, 5)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(error(DiscardRequest(6, 5)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(error(DiscardRequest(kMax - 1, kMax)),
            "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(error(DiscardRequest(19999, 20001)), "GFN_NOT_BACKED");
  v1::DiscardRangeRequest request = DiscardRequest(0, 20000);
  request.clear_range();
  EXPECT_EQ(error(request), "FIELD_INVALID range");
  request = DiscardRequest(0, 20000);
  request.set_vm("vms/b");
  EXPECT_EQ(error(request), "RESOURCE_NOT_FOUND");
  request.set_vm("b");
  EXPECT_EQ(error(request), "FIELD_INVALID vm");
  EXPECT_EQ(fake_->Stats().leaf_4k_count, 20000);
}

TEST_F(MmuServiceTest, GivesADiscardWhatIsLeftOfTheCallsTime) {
  absl::Duration time;
  fake_->SetMapHookForTest(
      [&](const WorkBudget& budget) { time = budget.time; });
  v1::DiscardRangeResponse response;
  const auto discard = [&] {
    return memory_.DiscardRange(context_, DiscardRequest(7, 9), &response).ok();
  };
  ASSERT_TRUE(discard());
  EXPECT_EQ(time, absl::Milliseconds(50));
  EXPECT_EQ(response.next_gfn(), 9u);
  context_.set_deadline(absl::Now() + absl::Milliseconds(20));
  ASSERT_TRUE(discard());
  EXPECT_LE(time, absl::Milliseconds(20));
  context_.set_deadline(absl::InfiniteFuture());
  context_.Cancel();
  ASSERT_TRUE(discard());
  EXPECT_EQ(response.next_gfn(), 7u) << "the first frame not yet handled";
}

}  // namespace
}  // namespace tdp::server
