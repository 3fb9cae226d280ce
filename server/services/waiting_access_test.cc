// EventHandler's accesses that wait, and the verdicts on them, against the
// fake.

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/services/event_service.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

using Resolve = v1::ResolveAccessRequest;

class WaitingAccessTest : public testing::Test {
 protected:
  void AddAccesses(int64_t count) {
    for (int64_t id = 1; id <= count; ++id) {
      fake_->AddWaitingAccessForTest({.access_id = id, .gfn = Gfn(100 + id)});
    }
  }

  absl::Status List(const v1::ListWaitingAccessesRequest& request) {
    listed_.Clear();
    return events_.ListWaitingAccesses(context_, request, &listed_);
  }

  absl::Status Send(int64_t access_id, int verdict,
                    const std::string& vm = "vms/a") {
    Resolve request;
    request.set_vm(vm);
    request.set_access_id(access_id);
    request.set_verdict(static_cast<Resolve::Verdict>(verdict));
    v1::ResolveAccessResponse response;
    return events_.ResolveAccess(context_, request, &response);
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a", 4);
  CallContext context_;
  EventHandler events_{registry_};
  v1::ListWaitingAccessesResponse listed_;
};

TEST_F(WaitingAccessTest, ShowsEveryFieldOfAnAccess) {
  v1::ListWaitingAccessesRequest request;
  request.set_vm("vms/a");
  ASSERT_TRUE(List(request).ok());
  EXPECT_EQ(listed_.accesses_size(), 0);
  EXPECT_TRUE(listed_.next_page_token().empty());
  fake_->AddWaitingAccessForTest({.access_id = 7,
                                  .gfn = Gfn(0x30),
                                  .access = {.read = true, .write = true},
                                  .vcpu_index = 3,
                                  .cause = WaitCause::kSourceFailed,
                                  .detail = "disk gone"});
  ASSERT_TRUE(List(request).ok());
  ASSERT_EQ(listed_.accesses_size(), 1);
  const v1::AccessWaiting& access = listed_.accesses(0);
  EXPECT_EQ(access.access_id(), 7);
  EXPECT_EQ(access.gfn(), 0x30u);
  EXPECT_TRUE(access.access().read());
  EXPECT_TRUE(access.access().write());
  EXPECT_EQ(access.vcpu_index(), 3);
  EXPECT_EQ(access.cause(), v1::AccessWaiting::CAUSE_SOURCE_FAILED);
  EXPECT_EQ(access.detail(), "disk gone");
}

TEST_F(WaitingAccessTest, ListsTheOldestFirstPageByPage) {
  AddAccesses(7);
  v1::ListWaitingAccessesRequest request;
  request.set_vm("vms/a");
  request.set_page_size(3);
  std::vector<int> sizes;
  std::vector<int64_t> ids;
  do {
    ASSERT_TRUE(List(request).ok());
    sizes.push_back(listed_.accesses_size());
    for (const auto& access : listed_.accesses()) {
      ids.push_back(access.access_id());
    }
    request.set_page_token(listed_.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(sizes, std::vector<int>({3, 3, 1}));
  EXPECT_EQ(ids, std::vector<int64_t>({1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(WaitingAccessTest, GoesOnAfterAnAccessThatWaitsNoLonger) {
  AddAccesses(4);
  v1::ListWaitingAccessesRequest request;
  request.set_vm("vms/a");
  request.set_page_size(2);
  ASSERT_TRUE(List(request).ok());
  ASSERT_TRUE(Send(2, Resolve::VERDICT_GRANT).ok());
  request.set_page_token(listed_.next_page_token());
  ASSERT_TRUE(List(request).ok());
  ASSERT_EQ(listed_.accesses_size(), 2);
  EXPECT_EQ(listed_.accesses(0).access_id(), 3);
  EXPECT_TRUE(listed_.next_page_token().empty());
}

TEST_F(WaitingAccessTest, HasPagesOfFiftyUnlessAskedAndOfAThousandAtMost) {
  AddAccesses(1001);
  v1::ListWaitingAccessesRequest request;
  request.set_vm("vms/a");
  ASSERT_TRUE(List(request).ok());
  EXPECT_EQ(listed_.accesses_size(), 50);
  for (const int page_size : {1000, 1001}) {
    request.set_page_size(page_size);
    ASSERT_TRUE(List(request).ok());
    EXPECT_EQ(listed_.accesses_size(), 1000);
    EXPECT_FALSE(listed_.next_page_token().empty());
  }
}

TEST_F(WaitingAccessTest, RefusesBadLists) {
  registry_.MakeVmForTest("other");
  AddAccesses(2);
  v1::ListWaitingAccessesRequest request;
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID vm");
  request.set_vm("vms/b");
  EXPECT_EQ(ReasonOf(List(request)), "RESOURCE_NOT_FOUND");
  request.set_vm("vms/a");
  request.set_page_size(-1);
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID page_size");
  request.set_page_size(1);
  request.set_page_token("nonsense");
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID page_token");
  request.clear_page_token();
  ASSERT_TRUE(List(request).ok());
  request.set_page_token(listed_.next_page_token());
  request.set_vm("vms/other");
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID page_token")
      << "of another list";
}

TEST_F(WaitingAccessTest, PassesEachVerdictOn) {
  AddAccesses(3);
  EXPECT_TRUE(Send(3, Resolve::VERDICT_RETRY).ok());
  EXPECT_TRUE(Send(1, Resolve::VERDICT_GRANT).ok());
  EXPECT_TRUE(Send(2, Resolve::VERDICT_KILL).ok());
  const std::vector<std::pair<int64_t, Verdict>> expected = {
      {3, Verdict::kRetry}, {1, Verdict::kGrant}, {2, Verdict::kKill}};
  EXPECT_EQ(fake_->verdicts_for_test(), expected);
}

TEST_F(WaitingAccessTest, RefusesAVerdictThatIsNone) {
  AddAccesses(1);
  for (const int verdict : {0, 4, -1, 99}) {
    EXPECT_EQ(FieldErrorOf(Send(1, verdict)), "FIELD_INVALID verdict")
        << verdict;
  }
  EXPECT_EQ(Send(1, 0).message(),
            "field verdict is empty; it must be VERDICT_GRANT, VERDICT_RETRY "
            "or VERDICT_KILL");
  EXPECT_TRUE(fake_->verdicts_for_test().empty());
}

TEST_F(WaitingAccessTest, RefusesAnAccessThatDoesNotWait) {
  AddAccesses(1);
  for (const int64_t id :
       {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_EQ(FieldErrorOf(Send(id, Resolve::VERDICT_GRANT)),
              "FIELD_INVALID access_id")
        << id;
  }
  EXPECT_EQ(ReasonOf(Send(2, Resolve::VERDICT_GRANT)), "RESOURCE_NOT_FOUND");
  ASSERT_TRUE(Send(1, Resolve::VERDICT_GRANT).ok());
  EXPECT_EQ(ReasonOf(Send(1, Resolve::VERDICT_GRANT)), "RESOURCE_NOT_FOUND")
      << "not any longer";
  EXPECT_EQ(ReasonOf(Send(1, Resolve::VERDICT_GRANT, "vms/b")),
            "RESOURCE_NOT_FOUND");
  EXPECT_EQ(FieldErrorOf(Send(1, Resolve::VERDICT_GRANT, "a")),
            "FIELD_INVALID vm");
}

}  // namespace
}  // namespace tdp::server
