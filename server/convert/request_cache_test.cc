#include "server/convert/request_cache.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/synchronization/notification.h"
#include "engine/base/errors.h"
#include "gtest/gtest.h"
#include "tdp/v1/memslot_service.pb.h"
#include "tdp/v1/vm_service.pb.h"

namespace tdp::server {
namespace {

constexpr char kId[] = "6f2a1c9e-0b7d-4e58-9a31-2c4d5e6f7a8b";

std::string IdOf(int i) {
  return absl::StrFormat("%08x-0000-4000-8000-000000000000", i);
}

class RequestCacheTest : public testing::Test {
 protected:
  // Runs a call that creates the VM `name`, the n-th run of which gives n as
  // the etag.
  absl::Status Call(const std::string& id, const std::string& name) {
    request_.set_vm_id(name);
    response_.Clear();
    return cache_.Run(id, request_, &response_, [&] {
      response_.mutable_vm()->set_etag(absl::StrFormat("%d", ++runs_));
      return result_;
    });
  }

  absl::Time now_ = absl::UnixEpoch();
  RequestCache cache_{[this] { return now_; }};
  v1::CreateVmRequest request_;
  v1::CreateVmResponse response_;
  absl::Status result_;
  int runs_ = 0;
};

TEST_F(RequestCacheTest, AlwaysRunsWithoutAnId) {
  EXPECT_TRUE(Call("", "a").ok());
  EXPECT_TRUE(Call("", "a").ok());
  EXPECT_EQ(runs_, 2);
}

TEST_F(RequestCacheTest, GivesARepeatedIdTheFirstResponse) {
  EXPECT_TRUE(Call(kId, "a").ok());
  EXPECT_TRUE(Call(kId, "a").ok());
  EXPECT_EQ(runs_, 1);
  EXPECT_EQ(response_.vm().etag(), "1");
  // An id is the same in upper case.
  EXPECT_TRUE(Call("6F2A1C9E-0B7D-4E58-9A31-2C4D5E6F7A8B", "a").ok());
  EXPECT_EQ(runs_, 1);
}

TEST_F(RequestCacheTest, RefusesAnIdWithOtherContent) {
  EXPECT_TRUE(Call(kId, "a").ok());
  const absl::Status status = Call(kId, "b");
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kRequestIdReused);
  v1::CreateMemslotRequest other;
  v1::CreateMemslotResponse response;
  EXPECT_EQ(DetailOf(cache_.Run(kId, other, &response,
                                [] { return absl::OkStatus(); }))
                ->reason,
            ErrorReason::kRequestIdReused);
  EXPECT_EQ(runs_, 1);
}

TEST_F(RequestCacheTest, DoesNotRememberFailures) {
  result_ = NotFoundError("x");
  EXPECT_FALSE(Call(kId, "a").ok());
  result_ = absl::OkStatus();
  EXPECT_TRUE(Call(kId, "b").ok());
  EXPECT_EQ(runs_, 2);
}

TEST_F(RequestCacheTest, RefusesWhatIsNoUuid4) {
  for (const char* id : {"x", "6f2a1c9e-0b7d-1e58-9a31-2c4d5e6f7a8b",
                         "6f2a1c9e-0b7d-4e58-7a31-2c4d5e6f7a8b",
                         "6f2a1c9e0b7d4e589a312c4d5e6f7a8b",
                         "6f2a1c9e-0b7d-4e58-9a31-2c4d5e6f7a8g",
                         "6f2a1c9e-0b7d-4e58-9a31-2c4d5e6f7a8b "}) {
    const absl::Status status = Call(id, "a");
    ASSERT_FALSE(status.ok()) << id;
    EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kFieldInvalid);
  }
  EXPECT_EQ(runs_, 0);
}

TEST_F(RequestCacheTest, ForgetsAfterTenMinutes) {
  EXPECT_TRUE(Call(kId, "a").ok());
  now_ += absl::Minutes(10) - absl::Nanoseconds(1);
  EXPECT_TRUE(Call(kId, "a").ok());
  EXPECT_EQ(runs_, 1);
  now_ += absl::Nanoseconds(1);
  EXPECT_TRUE(Call(kId, "a").ok());
  EXPECT_EQ(runs_, 2);
}

TEST_F(RequestCacheTest, RemembersTheLast1024) {
  for (int i = 0; i < 1025; ++i) ASSERT_TRUE(Call(IdOf(i), "a").ok());
  EXPECT_EQ(runs_, 1025);
  EXPECT_TRUE(Call(IdOf(1), "a").ok());
  EXPECT_EQ(runs_, 1025);
  EXPECT_TRUE(Call(IdOf(0), "a").ok());
  EXPECT_EQ(runs_, 1026);
}

TEST_F(RequestCacheTest, TellsACallWhoseTwinIsInProgress) {
  absl::Notification inside;
  absl::Notification release;
  v1::CreateVmResponse first_response;
  std::thread first([&] {
    EXPECT_TRUE(cache_
                    .Run(kId, request_, &first_response,
                         [&] {
                           inside.Notify();
                           release.WaitForNotification();
                           return absl::OkStatus();
                         })
                    .ok());
  });
  inside.WaitForNotification();
  v1::CreateVmResponse response;
  EXPECT_EQ(DetailOf(cache_.Run(kId, request_, &response,
                                [] { return absl::OkStatus(); }))
                ->reason,
            ErrorReason::kOperationConflict);
  release.Notify();
  first.join();
}

// Many threads race with the same id: one runs, the others get its response or
// are told to come back.
TEST_F(RequestCacheTest, RunsOnceHoweverManyRace) {
  std::atomic<int> runs = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        v1::CreateVmRequest request;
        v1::CreateVmResponse response;
        absl::Status status;
        do {
          status = cache_.Run(IdOf(i), request, &response, [&] {
            ++runs;
            response.mutable_vm()->set_name("vms/a");
            return absl::OkStatus();
          });
        } while (absl::IsAborted(status));
        EXPECT_TRUE(status.ok()) << status;
        EXPECT_EQ(response.vm().name(), "vms/a");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(runs, 50);
}

}  // namespace
}  // namespace tdp::server
