#include "client/lib/json.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "tdp/v1/info_service.pb.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/vm_service.pb.h"

namespace tdp::client {
namespace {

TEST(JsonTest, ZeroCountsAndEmptyListsArePrinted) {
  EXPECT_EQ(ToJson(v1::AuditRangeResponse()),
            R"({"nextGfn":"0","comparedFrameCount":"0",)"
            R"("divergentFrameCount":"0","divergences":[],)"
            R"("hostStricterFrameCount":"0"})");
  EXPECT_EQ(ToJson(v1::DeleteVmResponse()), "{}");
}

TEST(JsonTest, LargeNumbersAreExactStrings) {
  v1::ZapRangeResponse response;
  response.set_next_gfn(std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ToJson(response),
            R"({"nextGfn":"18446744073709551615","zappedFrameCount":"0"})");
}

TEST(JsonTest, MapsAreSortedByKey) {
  v1::GetInfoResponse first;
  v1::GetInfoResponse second;
  for (int i = 0; i < 100; ++i) {
    (*first.mutable_limits())["k" + std::to_string(i)] = i;
    (*second.mutable_limits())["k" + std::to_string(99 - i)] = 99 - i;
  }
  const std::string json = ToJson(first);
  EXPECT_EQ(json, ToJson(second));
  EXPECT_LT(json.find("\"k0\""), json.find("\"k1\""));
  EXPECT_LT(json.find("\"k98\""), json.find("\"k99\""));
}

}  // namespace
}  // namespace tdp::client
