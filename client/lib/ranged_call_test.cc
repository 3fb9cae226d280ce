#include "client/lib/ranged_call.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::ZapRangeRequest Request(uint64_t start, uint64_t end) {
  v1::ZapRangeRequest request;
  request.set_vm("vms/demo");
  request.mutable_range()->set_start_gfn(start);
  request.mutable_range()->set_end_gfn(end);
  return request;
}

v1::ZapRangeResponse Response(uint64_t next, int64_t count) {
  v1::ZapRangeResponse response;
  response.set_next_gfn(next);
  response.set_zapped_frame_count(count);
  return response;
}

TEST(RangedCallTest, CallsGoOnFromWhereTheLastOneStopped) {
  std::vector<uint64_t> starts;
  int64_t sum = 0;
  const absl::Status status = CallUntilEnd(
      Request(10, 100),
      [&](const v1::ZapRangeRequest& r)
          -> absl::StatusOr<v1::ZapRangeResponse> {
        EXPECT_EQ(r.vm(), "vms/demo");
        EXPECT_EQ(r.range().end_gfn(), 100u);
        starts.push_back(r.range().start_gfn());
        return Response(std::min<uint64_t>(100, starts.back() + 40), 7);
      },
      [&](const v1::ZapRangeResponse& r) { sum += r.zapped_frame_count(); });
  EXPECT_TRUE(status.ok());
  EXPECT_THAT(starts, ElementsAre(10, 50, 90));
  EXPECT_EQ(sum, 21);
}

TEST(RangedCallTest, AnErrorAtOnceIsPassedOnAsItIs) {
  const absl::Status status = CallUntilEnd(
      Request(10, 100),
      [](const auto&) -> absl::StatusOr<v1::ZapRangeResponse> {
        return absl::NotFoundError("vms/demo does not exist");
      },
      [](const auto&) { FAIL(); });
  EXPECT_EQ(ErrorText(status), "NOT_FOUND: vms/demo does not exist");
}

TEST(RangedCallTest, AnErrorAfterProgressSaysHowFarItGot) {
  int calls = 0;
  const absl::Status status = CallUntilEnd(
      Request(0, 100),
      [&](const auto&) -> absl::StatusOr<v1::ZapRangeResponse> {
        if (++calls == 2) return absl::AbortedError("busy");
        return Response(16, 16);
      },
      [](const auto&) {});
  EXPECT_EQ(ErrorText(status), "ABORTED: busy (0x0..0x10000 is done)");
}

TEST(RangedCallTest, ADaemonThatStandsStillEndsTheLoop) {
  for (const uint64_t next : {0, 9, 10}) {
    const absl::Status status = CallUntilEnd(
        Request(10, 100),
        [&](const auto&) -> absl::StatusOr<v1::ZapRangeResponse> {
          return Response(next, 0);
        },
        [](const auto&) {});
    EXPECT_THAT(ErrorText(status), HasSubstr("no progress at 0xa000"));
  }
}

TEST(RangedCallTest, ABadRangeIsSentOnceSoThatTheDaemonRefusesIt) {
  int calls = 0;
  const absl::Status status = CallUntilEnd(
      Request(100, 10),
      [&](const auto&) -> absl::StatusOr<v1::ZapRangeResponse> {
        ++calls;
        return absl::InvalidArgumentError("reversed");
      },
      [](const auto&) {});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(ErrorText(status), "INVALID_ARGUMENT: reversed");
}

}  // namespace
}  // namespace tdp::client
