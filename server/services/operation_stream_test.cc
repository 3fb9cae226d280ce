// OperationStream against the fake.

#include "server/services/operation_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

class OperationStreamTest : public testing::Test {
 protected:
  OperationStreamTest() {
    MemslotConfig config;
    config.frame_count = 20000;
    EXPECT_TRUE(fake_->CreateMemslot("ram", config, false).ok());
    request_.set_vm("vms/a");
  }

  void AddWalk(uint64_t gfn) { request_.add_operations()->set_walk_gfn(gfn); }
  template <typename Request>
  static Request* SetRange(Request* request, uint64_t start, uint64_t end) {
    request->mutable_range()->set_start_gfn(start);
    request->mutable_range()->set_end_gfn(end);
    return request;
  }
  v1::MapRangeRequest* AddMap(uint64_t start, uint64_t end) {
    return SetRange(request_.add_operations()->mutable_map(), start, end);
  }
  v1::ZapRangeRequest* AddZap(uint64_t start, uint64_t end) {
    return SetRange(request_.add_operations()->mutable_zap(), start, end);
  }
  absl::Status Answer() {
    response_.Clear();
    const absl::Status status = stream_.Answer(context_, request_, &response_);
    request_.Clear();
    return status;
  }
  const v1::StreamResult& result(int i) { return response_.results(i); }
  static std::string ReasonOf(const v1::StreamResult& result) {
    v1::ErrorInfo info;
    if (result.error().details_size() != 1 ||
        !info.ParseFromString(result.error().details(0).value())) {
      return "not one ErrorInfo";
    }
    return info.reason();
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  CallContext context_;
  OperationStream stream_{registry_};
  v1::StreamOperationsRequest request_;
  v1::StreamOperationsResponse response_;
};

TEST_F(OperationStreamTest, DoesOneOfEachKindInOrder) {
  fake_->SetVerbHookForTest([](const FakeVm::VerbCall& call) {
    return FakeVm::VerbAnswer{.next_gfn = call.range.end,
                              .changed = call.verb == "AgeRange" ? 4 : 3};
  });
  AddWalk(7);
  AddMap(5, 9)->set_write(true);
  AddWalk(7);
  AddWalk(8);
  SetRange(request_.add_operations()->mutable_write_protect(), 5, 9);
  SetRange(request_.add_operations()->mutable_age(), 5, 10);
  AddZap(7, 100);
  AddWalk(7);
  AddWalk(6);
  ASSERT_TRUE(Answer().ok());
  ASSERT_EQ(response_.results_size(), 9);
  EXPECT_FALSE(result(0).spte().present());
  EXPECT_EQ(result(0).next_gfn(), 0u);
  EXPECT_EQ(result(1).changed_count(), 4);
  EXPECT_EQ(result(1).next_gfn(), 9u);
  for (const int i : {2, 3}) {
    EXPECT_TRUE(result(i).spte().present());
    EXPECT_EQ(result(i).spte().base_gfn(), i + 5u);
    EXPECT_TRUE(result(i).spte().access().write());
  }
  EXPECT_EQ(result(4).changed_count(), 3);
  EXPECT_EQ(result(5).changed_count(), 4);
  EXPECT_EQ(result(5).next_gfn(), 10u);
  EXPECT_EQ(result(6).changed_count(), 2);
  EXPECT_EQ(result(6).next_gfn(), 100u);
  EXPECT_FALSE(result(7).spte().present());
  EXPECT_TRUE(result(8).spte().present());
  // Five walks, and from what changed to all frames of the ranges.
  EXPECT_GE(context_.work(), 5 + 4 + 3 + 4 + 2);
  EXPECT_LE(context_.work(), 5 + 4 + 4 + 5 + 93);
}

TEST_F(OperationStreamTest, AnswersTheLastEntryAsWalkGfnDoes) {
  AddMap(3, 4);
  AddWalk(3);
  ASSERT_TRUE(Answer().ok());
  const auto path = fake_->WalkGfn(Gfn(3));
  EXPECT_EQ(result(1).spte().raw(), path->back().raw);
  EXPECT_EQ(result(1).spte().level(), v1::PAGE_LEVEL_4K);
}

TEST_F(OperationStreamTest, GoesOnAfterAnOperationThatFails) {
  AddWalk(1);
  AddWalk(uint64_t{1} << 60);
  AddWalk(2);
  AddMap(19999, 20001);  // its end is in no memslot
  AddMap(9, 5);          // reversed
  request_.add_operations();
  request_.add_operations()->mutable_zap();
  SetRange(request_.add_operations()->mutable_age(), 1, 2)->set_bitmap(true);
  AddMap(1, 2)->set_max_level(v1::PAGE_LEVEL_1G);
  AddMap(1, 2);
  ASSERT_TRUE(Answer().ok());
  ASSERT_EQ(response_.results_size(), 10);
  EXPECT_TRUE(result(0).has_spte());
  EXPECT_TRUE(result(2).has_spte());
  EXPECT_EQ(ReasonOf(result(3)), "GFN_NOT_BACKED");
  for (const int i : {1, 4, 5, 6, 7, 8}) {
    EXPECT_EQ(ReasonOf(result(i)), "FIELD_INVALID") << i;
    EXPECT_EQ(result(i).next_gfn(), 0u);
  }
  EXPECT_EQ(result(9).changed_count(), 1);
}

TEST_F(OperationStreamTest, SaysWhereARangeThatStoppedEarlyGoesOn) {
  fake_->SetVerbHookForTest([](const FakeVm::VerbCall& call) {
    return FakeVm::VerbAnswer{.next_gfn = call.range.start + 3, .changed = 2};
  });
  SetRange(request_.add_operations()->mutable_write_protect(), 10, 900);
  ASSERT_TRUE(Answer().ok());
  EXPECT_EQ(result(0).next_gfn(), 13u);
  EXPECT_GE(context_.work(), 2);
}

TEST_F(OperationStreamTest, TheRangesOfAMessageShareOneBudget) {
  std::vector<absl::Duration> budgets;
  fake_->SetVerbHookForTest([&](const FakeVm::VerbCall& call) {
    budgets.push_back(call.budget.time);
    absl::SleepFor(call.budget.time);
    return FakeVm::VerbAnswer{.next_gfn = call.range.end};
  });
  for (int i = 0; i < 3; ++i) {
    SetRange(request_.add_operations()->mutable_write_protect(), 0, 900);
  }
  ASSERT_TRUE(Answer().ok());
  ASSERT_EQ(budgets.size(), 3u);
  EXPECT_GT(budgets[0], absl::ZeroDuration());
  EXPECT_LE(budgets[0], WorkBudget().time);
  EXPECT_EQ(budgets[1], absl::ZeroDuration());
  EXPECT_EQ(budgets[2], absl::ZeroDuration());
}

TEST_F(OperationStreamTest, IsBoundToTheVmOfItsFirstMessage) {
  registry_.MakeVmForTest("b");
  AddWalk(1);
  ASSERT_TRUE(Answer().ok());
  AddWalk(1);
  ASSERT_TRUE(Answer().ok()) << "without a name";
  request_.set_vm("vms/a");
  ASSERT_TRUE(Answer().ok()) << "with the same name, and no operation";
  EXPECT_EQ(response_.results_size(), 0);
  request_.set_vm("vms/b");
  EXPECT_EQ(FieldErrorOf(Answer()), "FIELD_INVALID vm");
}

TEST_F(OperationStreamTest, NeedsAVmThatExists) {
  request_.clear_vm();
  EXPECT_EQ(FieldErrorOf(Answer()), "FIELD_INVALID vm");
  request_.set_vm("vms/none");
  EXPECT_EQ(server::ReasonOf(Answer()), "RESOURCE_NOT_FOUND");
}

TEST_F(OperationStreamTest, IgnoresTheVmOfAnOperation) {
  AddMap(1, 2)->set_vm("vms/none");
  ASSERT_TRUE(Answer().ok());
  EXPECT_EQ(result(0).changed_count(), 1);
}

TEST_F(OperationStreamTest, TakesAsManyOperationsAsTheLimitAndNotOneMore) {
  for (int i = 0; i < limits::kMaxStreamOperations; ++i) AddWalk(i);
  v1::StreamOperationsRequest more = request_;
  ASSERT_TRUE(Answer().ok());
  EXPECT_EQ(response_.results_size(), limits::kMaxStreamOperations);
  request_ = more;
  AddWalk(1);
  EXPECT_EQ(FieldErrorOf(Answer()), "FIELD_INVALID operations");
}

TEST_F(OperationStreamTest, EndsWhenTheVmIsDeletedUnderIt) {
  fake_->SetVerbHookForTest([](const FakeVm::VerbCall&) {
    return absl::StatusOr<FakeVm::VerbAnswer>(NotFoundError("vms/a"));
  });
  SetRange(request_.add_operations()->mutable_write_protect(), 0, 1);
  EXPECT_EQ(server::ReasonOf(Answer()), "RESOURCE_NOT_FOUND");
}

TEST_F(OperationStreamTest, StopsBetweenOperationsWhenItsCallerIsGone) {
  fake_->SetVerbHookForTest([this](const FakeVm::VerbCall& call) {
    context_.Cancel();
    return FakeVm::VerbAnswer{.next_gfn = call.range.end};
  });
  SetRange(request_.add_operations()->mutable_write_protect(), 0, 1);
  AddMap(1, 2);
  EXPECT_EQ(server::ReasonOf(Answer()), "CANCELLED");
  EXPECT_EQ(fake_->Stats().leaf_4k_count, 0);
  EXPECT_LE(context_.work(), 1) << "what was not done does not count";
}

TEST_F(OperationStreamTest, AnswersFewWalksInPlaceAndNothingElse) {
  EXPECT_FALSE(OperationStream::IsLong(request_));
  for (int i = 0; i < 256; ++i) AddWalk(i);
  EXPECT_FALSE(OperationStream::IsLong(request_));
  AddWalk(1);
  EXPECT_TRUE(OperationStream::IsLong(request_));
  request_.Clear();
  AddWalk(1);
  AddMap(1, 2);
  EXPECT_TRUE(OperationStream::IsLong(request_));
}

}  // namespace
}  // namespace tdp::server
