#include "client/lib/call_error.h"

#include <string>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

std::string Details() {
  v1::ErrorInfo info;
  info.set_reason("MEMSLOT_OVERLAP");
  info.set_domain("tdp.v1");
  (*info.mutable_metadata())["startGfn"] = "0x100";
  (*info.mutable_metadata())["endGfn"] = "0x200";
  v1::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(2);
  v1::RpcStatus status;
  google::protobuf::Any* any = status.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  any->set_value(info.SerializeAsString());
  any = status.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any->set_value(retry.SerializeAsString());
  return status.SerializeAsString();
}

TEST(CallErrorTest, TextIsCodeAndMessage) {
  EXPECT_EQ(ErrorText(MakeCallError(5, "vms/x does not exist", "")),
            "NOT_FOUND: vms/x does not exist");
}

TEST(CallErrorTest, JsonHasEveryDetailInAFixedOrder) {
  EXPECT_EQ(ErrorJson(MakeCallError(6, "overlap \"ram\"", Details())),
            R"({"error":{"code":"ALREADY_EXISTS","domain":"tdp.v1",)"
            R"("message":"overlap \"ram\"",)"
            R"("metadata":{"endGfn":"0x200","startGfn":"0x100"},)"
            R"("reason":"MEMSLOT_OVERLAP","retryDelay":"2s"}})");
}

TEST(CallErrorTest, JsonWithoutDetailsIsCodeAndMessage) {
  EXPECT_EQ(ErrorJson(MakeCallError(14, "gone", "")),
            R"({"error":{"code":"UNAVAILABLE","message":"gone"}})");
}

TEST(CallErrorTest, BrokenDetailsAreLeftOut) {
  const absl::Status status = MakeCallError(13, "bug", "\xff\xff\xff");
  EXPECT_EQ(ErrorText(status), "INTERNAL: bug");
  EXPECT_FALSE(ErrorInfoOf(status).has_value());
}

TEST(CallErrorTest, WhoIsCutOffForReadingSlowlyHearsItAsAReason) {
  const absl::Status status = MakeCallError(8, "STREAM_TOO_SLOW: read", "");
  EXPECT_EQ(ErrorInfoOf(status)->reason(), "STREAM_TOO_SLOW");
  EXPECT_FALSE(
      ErrorInfoOf(MakeCallError(8, "no STREAM_TOO_SLOW: read", "")).has_value())
      << "a text of gRPC's own";
}

TEST(CallErrorTest, ASuffixKeepsTheDetails) {
  const absl::Status status =
      WithSuffix(MakeCallError(6, "overlap", Details()), " (later)");
  EXPECT_EQ(ErrorText(status), "ALREADY_EXISTS: overlap (later)");
  EXPECT_EQ(ErrorInfoOf(status)->reason(), "MEMSLOT_OVERLAP");
}

}  // namespace
}  // namespace tdp::client
