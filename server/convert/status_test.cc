#include "server/convert/status.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

v1::ErrorInfo InfoOf(const v1::RpcStatus& status) {
  v1::ErrorInfo info;
  EXPECT_GE(status.details_size(), 1);
  EXPECT_EQ(status.details(0).type_url(),
            "type.googleapis.com/google.rpc.ErrorInfo");
  EXPECT_TRUE(info.ParseFromString(status.details(0).value()));
  return info;
}

TEST(StatusTest, GivesAnErrorExactlyOneErrorInfo) {
  const absl::Status error =
      MakeError(ErrorReason::kMemslotOverlap, "memslot \"a\" overlaps \"b\"",
                {{"memslot", "a"}, {"other", "b"}});
  const v1::RpcStatus status = ToRpcStatus(error);
  EXPECT_EQ(status.code(), 6);
  EXPECT_EQ(status.message(), "memslot \"a\" overlaps \"b\"");
  EXPECT_EQ(status.details_size(), 1);
  const v1::ErrorInfo info = InfoOf(status);
  EXPECT_EQ(info.reason(), "MEMSLOT_OVERLAP");
  EXPECT_EQ(info.domain(), "tdp.v1");
  EXPECT_EQ(info.metadata().at("memslot"), "a");
  EXPECT_EQ(info.metadata().at("other"), "b");
}

TEST(StatusTest, EveryReasonKeepsItsNameAndCode) {
  for (int i = 1; i < v1::ErrorReason_ARRAYSIZE; ++i) {
    const auto reason = static_cast<ErrorReason>(i);
    const v1::RpcStatus status = ToRpcStatus(MakeError(reason, "text"));
    EXPECT_EQ(status.code(), static_cast<int>(CodeOf(reason)));
    EXPECT_EQ(absl::StrCat("ERROR_REASON_", InfoOf(status).reason()),
              v1::ErrorReason_Name(i));
  }
}

TEST(StatusTest, SaysWhenToComeBackWhereThatHelps) {
  const v1::RpcStatus status =
      ToRpcStatus(MakeError(ErrorReason::kDraining, "draining"));
  ASSERT_EQ(status.details_size(), 2);
  EXPECT_EQ(status.details(1).type_url(),
            "type.googleapis.com/google.rpc.RetryInfo");
  v1::RetryInfo retry;
  ASSERT_TRUE(retry.ParseFromString(status.details(1).value()));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  const v1::RpcStatus limited = ToRpcStatus(LimitError(
      "max_calls", 1, "wait", absl::Seconds(2) + absl::Nanoseconds(1)));
  ASSERT_EQ(limited.details_size(), 2);
  ASSERT_TRUE(retry.ParseFromString(limited.details(1).value()));
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 1'000'000) << "rounded up";
  EXPECT_EQ(ToRpcStatus(LimitError("max_vms", 1, "delete one")).details_size(),
            1);
  EXPECT_EQ(ToRpcStatus(MakeError(ErrorReason::kEtagMismatch, "stale"))
                .details_size(),
            1);
}

TEST(StatusTest, TurnsAStatusThatIsNotOursIntoAnInternalError) {
  const v1::RpcStatus status = ToRpcStatus(absl::NotFoundError("lost"));
  EXPECT_EQ(status.code(), 13);
  EXPECT_NE(status.message().find("lost"), std::string::npos);
  EXPECT_EQ(InfoOf(status).reason(), "INTERNAL");
}

TEST(StatusTest, StaysSmallEnoughForTheHeaders) {
  ErrorMetadata metadata;
  for (int i = 0; i < 100; ++i) {
    metadata.emplace_back(absl::StrCat("key", i), std::string(10000, 'x'));
  }
  const grpc::Status status = ToGrpcStatus(MakeError(
      ErrorReason::kFieldInvalid, std::string(100000, 'y'), metadata));
  EXPECT_LE(status.error_message().size(), 800u);
  EXPECT_LE(status.error_details().size(), 4000u);
}

TEST(StatusTest, CarriesTheDetailsNextToCodeAndMessage) {
  const grpc::Status status = ToGrpcStatus(NotFoundError("vms/a"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  v1::RpcStatus details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.message(), status.error_message());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

}  // namespace
}  // namespace tdp::server
