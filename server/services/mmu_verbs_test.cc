// MmuHandler's changes of what is mapped: protect, write-protect, split,
// collapse, age and batches, against the fake.

#include <memory>
#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "gtest/gtest.h"
#include "server/services/mmu_service.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

constexpr GfnRange kRange{Gfn(10), Gfn(2000)};

class MmuVerbsTest : public testing::Test {
 protected:
  MmuVerbsTest() {
    fake_->SetVerbHookForTest([this](const FakeVm::VerbCall& call)
                                  -> absl::StatusOr<FakeVm::VerbAnswer> {
      call_ = call;
      if (!failure_.ok()) return failure_;
      return answer_;
    });
  }

  // A request over kRange.
  template <typename Request>
  static Request On(const char* vm = "vms/a") {
    Request request;
    request.set_vm(vm);
    request.mutable_range()->set_start_gfn(kRange.start.value());
    request.mutable_range()->set_end_gfn(kRange.end.value());
    return request;
  }

  static v1::ProtectRangeRequest Protect(bool read, bool write) {
    auto request = On<v1::ProtectRangeRequest>();
    request.mutable_access()->set_read(read);
    request.mutable_access()->set_write(write);
    return request;
  }

  static v1::SplitHugePagesRequest Split(int level) {
    auto request = On<v1::SplitHugePagesRequest>();
    request.set_target_level(static_cast<v1::PageLevel>(level));
    return request;
  }

  absl::Status Run(const v1::ProtectRangeRequest& request) {
    return mmu_.ProtectRange(context_, request, &protected_);
  }
  absl::Status Run(const v1::WriteProtectRangeRequest& request) {
    return mmu_.WriteProtectRange(context_, request, &write_protected_);
  }
  absl::Status Run(const v1::SplitHugePagesRequest& request) {
    return mmu_.SplitHugePages(context_, request, &split_);
  }
  absl::Status Run(const v1::CollapseHugePagesRequest& request) {
    return mmu_.CollapseHugePages(context_, request, &collapsed_);
  }
  absl::Status Run(const v1::AgeRangeRequest& request) {
    return mmu_.AgeRange(context_, request, &aged_);
  }
  absl::Status Run(const v1::ApplyBatchRequest& request) {
    return mmu_.ApplyBatch(context_, request, &applied_);
  }

  // The errors that a request over a good range shares with the other verbs.
  template <typename Request>
  void ExpectRefusesBadVmsAndRanges(const Request& good) {
    ASSERT_TRUE(Run(good).ok());
    call_.reset();
    Request bad = good;
    bad.set_vm("vms/b");
    EXPECT_EQ(ReasonOf(Run(bad)), "RESOURCE_NOT_FOUND");
    bad.set_vm("a");
    EXPECT_EQ(FieldErrorOf(Run(bad)), "FIELD_INVALID vm");
    bad = good;
    bad.clear_range();
    EXPECT_EQ(FieldErrorOf(Run(bad)), "FIELD_INVALID range");
    bad.mutable_range();
    EXPECT_EQ(FieldErrorOf(Run(bad)), "FIELD_INVALID range.end_gfn");
    bad.mutable_range()->set_start_gfn(1);
    EXPECT_EQ(FieldErrorOf(Run(bad)), "FIELD_INVALID range.end_gfn");
    bad.mutable_range()->set_end_gfn(~uint64_t{0});
    EXPECT_EQ(FieldErrorOf(Run(bad)), "FIELD_INVALID range.end_gfn");
    EXPECT_FALSE(call_.has_value());
    failure_ = GfnNotBackedError(Gfn(11));
    EXPECT_EQ(ReasonOf(Run(good)), "GFN_NOT_BACKED") << "the engine's answer";
    EXPECT_TRUE(call_.has_value());
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  CallContext context_;
  MmuHandler mmu_{registry_};
  std::optional<FakeVm::VerbCall> call_;  // the last that reached the VM
  FakeVm::VerbAnswer answer_{.next_gfn = Gfn(1500), .changed = 77};
  absl::Status failure_;
  v1::ProtectRangeResponse protected_;
  v1::WriteProtectRangeResponse write_protected_;
  v1::SplitHugePagesResponse split_;
  v1::CollapseHugePagesResponse collapsed_;
  v1::AgeRangeResponse aged_;
  v1::ApplyBatchResponse applied_;
};

TEST_F(MmuVerbsTest, ProtectsARange) {
  ASSERT_TRUE(Run(Protect(true, false)).ok());
  EXPECT_EQ(call_->verb, "ProtectRange");
  EXPECT_EQ(call_->range, kRange);
  EXPECT_EQ(call_->access, (Access{.read = true, .write = false}));
  EXPECT_EQ(protected_.next_gfn(), 1500u);
  EXPECT_EQ(protected_.changed_spte_count(), 77);
  ASSERT_TRUE(Run(Protect(true, true)).ok());
  EXPECT_EQ(call_->access, (Access{.read = true, .write = true}));
  ASSERT_TRUE(Run(Protect(false, false)).ok()) << "no access, said so";
  EXPECT_EQ(call_->access, Access());
  ASSERT_TRUE(Run(Protect(false, true)).ok()) << "the engine's question";
  EXPECT_EQ(call_->access, (Access{.read = false, .write = true}));
}

TEST_F(MmuVerbsTest, RefusesToProtectWithoutAnAccess) {
  EXPECT_EQ(FieldErrorOf(Run(On<v1::ProtectRangeRequest>())),
            "FIELD_INVALID access");
  EXPECT_FALSE(call_.has_value());
  ExpectRefusesBadVmsAndRanges(Protect(true, false));
}

TEST_F(MmuVerbsTest, WriteProtectsARange) {
  auto request = On<v1::WriteProtectRangeRequest>();
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(call_->verb, "WriteProtectRange");
  EXPECT_EQ(call_->range, kRange);
  EXPECT_EQ(call_->level, 0);
  EXPECT_EQ(write_protected_.next_gfn(), 1500u);
  EXPECT_EQ(write_protected_.changed_spte_count(), 77);
  request.set_min_level(v1::PAGE_LEVEL_2M);
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(call_->level, 2);
}

TEST_F(MmuVerbsTest, RefusesToWriteProtectFromALevelThatIsNone) {
  auto request = On<v1::WriteProtectRangeRequest>();
  for (const int level : {-1, 6, 99}) {
    request.set_min_level(static_cast<v1::PageLevel>(level));
    EXPECT_EQ(FieldErrorOf(Run(request)), "FIELD_INVALID min_level") << level;
  }
  EXPECT_FALSE(call_.has_value());
  ExpectRefusesBadVmsAndRanges(On<v1::WriteProtectRangeRequest>());
}

TEST_F(MmuVerbsTest, SplitsHugePages) {
  ASSERT_TRUE(Run(Split(2)).ok());
  EXPECT_EQ(call_->verb, "SplitHugePages");
  EXPECT_EQ(call_->range, kRange);
  EXPECT_EQ(call_->level, 2);
  EXPECT_EQ(split_.next_gfn(), 1500u);
  EXPECT_EQ(split_.split_count(), 77);
  ASSERT_TRUE(Run(Split(1)).ok());
  EXPECT_EQ(call_->level, 1);
}

TEST_F(MmuVerbsTest, RefusesToSplitToNoLevel) {
  for (const int level : {0, -1, 6}) {
    EXPECT_EQ(FieldErrorOf(Run(Split(level))), "FIELD_INVALID target_level")
        << level;
  }
  EXPECT_EQ(Run(Split(0)).message(),
            "field target_level is empty; it must be PAGE_LEVEL_4K or "
            "PAGE_LEVEL_2M");
  EXPECT_FALSE(call_.has_value());
  ExpectRefusesBadVmsAndRanges(Split(1));
}

TEST_F(MmuVerbsTest, CollapsesHugePages) {
  auto request = On<v1::CollapseHugePagesRequest>();
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(call_->verb, "CollapseHugePages");
  EXPECT_EQ(call_->range, kRange);
  EXPECT_EQ(call_->level, 0);
  EXPECT_EQ(collapsed_.next_gfn(), 1500u);
  EXPECT_EQ(collapsed_.collapsed_count(), 77);
  request.set_max_level(v1::PAGE_LEVEL_1G);
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(call_->level, 3);
}

TEST_F(MmuVerbsTest, RefusesToCollapseToALevelThatIsNone) {
  auto request = On<v1::CollapseHugePagesRequest>();
  for (const int level : {-1, 6}) {
    request.set_max_level(static_cast<v1::PageLevel>(level));
    EXPECT_EQ(FieldErrorOf(Run(request)), "FIELD_INVALID max_level") << level;
  }
  EXPECT_FALSE(call_.has_value());
  ExpectRefusesBadVmsAndRanges(On<v1::CollapseHugePagesRequest>());
}

TEST_F(MmuVerbsTest, CountsYoungFrames) {
  auto request = On<v1::AgeRangeRequest>();
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(call_->verb, "AgeRange");
  EXPECT_EQ(call_->range, kRange);
  EXPECT_FALSE(call_->age.test_only);
  EXPECT_FALSE(call_->age.bitmap);
  EXPECT_EQ(aged_.next_gfn(), 1500u);
  EXPECT_EQ(aged_.young_frame_count(), 77);
  EXPECT_FALSE(aged_.has_young());
  request.set_test_only(true);
  ASSERT_TRUE(Run(request).ok());
  EXPECT_TRUE(call_->age.test_only);
  ExpectRefusesBadVmsAndRanges(request);
}

TEST_F(MmuVerbsTest, NamesTheYoungFramesIfAskedTo) {
  answer_.young = {Gfn(64), 12, std::string("\x80\0", 2)};
  auto request = On<v1::AgeRangeRequest>();
  request.set_bitmap(true);
  ASSERT_TRUE(Run(request).ok());
  EXPECT_TRUE(call_->age.bitmap);
  EXPECT_FALSE(call_->age.test_only);
  EXPECT_EQ(aged_.young().first_gfn(), 64u);
  EXPECT_EQ(aged_.young().frame_count(), 12);
  EXPECT_EQ(aged_.young().bits(), std::string("\x80\0", 2));
}

TEST_F(MmuVerbsTest, AppliesABatchInItsOrder) {
  answer_.hold_duration = absl::Seconds(1) + absl::Nanoseconds(2);
  v1::ApplyBatchRequest request;
  request.set_vm("vms/a");
  // Inside a batch the VM of an operation means nothing.
  *request.add_operations()->mutable_map() = On<v1::MapRangeRequest>("x y");
  *request.add_operations()->mutable_zap() = On<v1::ZapRangeRequest>("");
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(call_->verb, "ApplyBatch");
  ASSERT_EQ(call_->operations.size(), 2u);
  EXPECT_EQ(call_->operations[0].kind, BatchOperation::Kind::kMap);
  EXPECT_EQ(call_->operations[1].kind, BatchOperation::Kind::kZap);
  EXPECT_EQ(call_->operations[1].range, kRange);
  EXPECT_EQ(applied_.changed_spte_count(), 77);
  EXPECT_EQ(applied_.hold_duration().seconds(), 1);
  EXPECT_EQ(applied_.hold_duration().nanos(), 2);
}

TEST_F(MmuVerbsTest, RefusesBadBatches) {
  v1::ApplyBatchRequest request;
  EXPECT_EQ(FieldErrorOf(Run(request)), "FIELD_INVALID vm");
  request.set_vm("vms/b");
  EXPECT_EQ(ReasonOf(Run(request)), "RESOURCE_NOT_FOUND");
  request.set_vm("vms/a");
  *request.add_operations()->mutable_zap() = On<v1::ZapRangeRequest>();
  request.add_operations();
  EXPECT_EQ(FieldErrorOf(Run(request)), "FIELD_INVALID operations[1]");
  EXPECT_FALSE(call_.has_value());
  request.clear_operations();
  failure_ = FieldError("operations", "empty", "1 to 256 operations");
  EXPECT_EQ(FieldErrorOf(Run(request)), "FIELD_INVALID operations");
  EXPECT_TRUE(call_.has_value()) << "an empty one is the engine's question";
}

TEST_F(MmuVerbsTest, EachRangedVerbHasWhatIsLeftOfTheCallsTime) {
  const auto expect_budget = [&](const auto& request, const char* verb) {
    context_.set_deadline(absl::InfiniteFuture());
    ASSERT_TRUE(Run(request).ok());
    EXPECT_EQ(call_->verb, verb);
    EXPECT_EQ(call_->budget.time, absl::Milliseconds(50)) << verb;
    EXPECT_FALSE(call_->budget.cancelled()) << verb;
    context_.set_deadline(absl::Now() + absl::Milliseconds(20));
    ASSERT_TRUE(Run(request).ok());
    EXPECT_LE(call_->budget.time, absl::Milliseconds(20)) << verb;
  };
  expect_budget(Protect(true, true), "ProtectRange");
  expect_budget(On<v1::WriteProtectRangeRequest>(), "WriteProtectRange");
  expect_budget(Split(1), "SplitHugePages");
  expect_budget(On<v1::CollapseHugePagesRequest>(), "CollapseHugePages");
  expect_budget(On<v1::AgeRangeRequest>(), "AgeRange");
  context_.Cancel();
  ASSERT_TRUE(Run(Split(1)).ok());
  EXPECT_TRUE(call_->budget.cancelled());
}

}  // namespace
}  // namespace tdp::server
