#include "server/observe/call_log.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "gmock/gmock.h"
#include "grpcpp/server_context.h"
#include "grpcpp/test/server_context_test_spouse.h"
#include "gtest/gtest.h"
#include "server/observe/request_id.h"
#include "server/rpc/call_context.h"

namespace tdp::server {
namespace {

using testing::Contains;
using testing::Key;
using testing::Not;
using testing::Pair;

struct WrittenLine {
  Severity severity;
  std::string message;
  std::map<std::string, std::string> fields;
};

class CallLogTest : public testing::Test {
 protected:
  void TearDown() override { SetLogLevel(Severity::kInfo); }

  // A call of `duration` that ends; returns the trailing metadata.
  std::multimap<std::string, std::string> Call(
      const absl::Status& status,
      absl::Duration duration = absl::Microseconds(7), bool is_stream = false,
      const std::string& request_id = "") {
    const MethodTraits traits = {.name = "A.B", .is_stream = is_stream};
    CallContext context;
    context.set_method(&traits);
    context.set_peer(peer_);
    context.set_start_time(now_ - duration);
    grpc::ServerContext transport;
    grpc::testing::ServerContextTestSpouse spouse(&transport);
    if (!request_id.empty()) {
      spouse.AddClientMetadata(kRequestIdKey, request_id);
    }
    EXPECT_TRUE(log_.Enter(transport, context).ok());
    log_.Completing(transport, context, status);
    log_.Leave(context, status.code());
    std::multimap<std::string, std::string> trailing;
    for (const auto& [key, value] : spouse.GetTrailingMetadata()) {
      trailing.emplace(std::string(key.data(), key.size()),
                       std::string(value.data(), value.size()));
    }
    return trailing;
  }

  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  std::shared_ptr<const Peer> peer_ = std::make_shared<const Peer>(
      Peer{.identity = "uid:7", .role = Role::kAdmin, .id = 7});
  std::vector<WrittenLine> lines_;
  CallLog log_{{.write =
                    [this](Severity severity, absl::string_view message,
                           absl::Span<const LogField> fields) {
                      WrittenLine& line = lines_.emplace_back();
                      line.severity = severity;
                      line.message = std::string(message);
                      for (const LogField& field : fields) {
                        line.fields[std::string(field.key)] =
                            std::string(field.value);
                      }
                    },
                .now = [this] { return now_; },
                .monotonic_now = [this] { return absl::ToUnixNanos(now_); }}};
};

TEST_F(CallLogTest, LogsAnErrorWithItsReasonAndWhoseItIs) {
  const auto trailing =
      Call(NotFoundError("vms/a"), absl::Microseconds(7), false, "job-1.2_3");
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0].severity, Severity::kInfo);
  EXPECT_EQ(lines_[0].message, "call failed");
  const std::map<std::string, std::string> expected = {
      {"method", "A.B"},    {"code", "NOT_FOUND"},
      {"duration_us", "7"}, {"reason", "RESOURCE_NOT_FOUND"},
      {"peer", "uid:7"},    {"request_id", "job-1.2_3"}};
  EXPECT_EQ(lines_[0].fields, expected);
  EXPECT_THAT(trailing, Contains(Pair("x-request-id", "job-1.2_3")));
}

TEST_F(CallLogTest, TellsWhichLimitWasReached) {
  Call(LimitError("max_vms", 256, "delete a VM"));
  EXPECT_EQ(lines_.back().fields["reason"], "LIMIT_REACHED");
  EXPECT_EQ(lines_.back().fields["limit"], "max_vms");
  Call(NotFoundError("vms/a"));
  EXPECT_THAT(lines_.back().fields, Not(Contains(Key("limit"))));
}

TEST_F(CallLogTest, ACallDuringWhichTheClockIsSetBackTookNoTime) {
  Call(NotFoundError("vms/a"), -absl::Hours(1));
  EXPECT_EQ(lines_.back().fields["duration_us"], "0");
}

TEST_F(CallLogTest, MakesUpARequestIdForWhoSendsNoneThatIsClean) {
  for (const std::string& id :
       {std::string(), std::string("a b"), std::string("a\nlevel=error"),
        std::string(65, 'x'), std::string("\xff")}) {
    const auto trailing =
        Call(NotFoundError("vms/a"), absl::Seconds(0), false, id);
    ASSERT_EQ(trailing.count("x-request-id"), 1u);
    const std::string made = trailing.find("x-request-id")->second;
    EXPECT_EQ(made.size(), 16u);
    EXPECT_TRUE(IsCleanRequestId(made));
    EXPECT_EQ(lines_.back().fields["request_id"], made);
  }
  EXPECT_NE(lines_[0].fields["request_id"], lines_[1].fields["request_id"]);
  EXPECT_TRUE(IsCleanRequestId(std::string(64, 'x')));
}

TEST_F(CallLogTest, RanksErrorsByWhoMustLookAtThem) {
  Call(InternalError("the host broke"));
  EXPECT_EQ(lines_.back().severity, Severity::kError);
  EXPECT_EQ(lines_.back().fields["error"], "the host broke");
  Call(MakeError(ErrorReason::kRoleDenied, "no"));
  EXPECT_EQ(lines_.back().severity, Severity::kWarning);
  EXPECT_EQ(lines_.back().fields["reason"], "ROLE_DENIED");
  EXPECT_THAT(lines_.back().fields, Not(Contains(Key("error"))));
  Call(FieldError("a", "b", "c"));
  EXPECT_EQ(lines_.back().severity, Severity::kInfo);
}

TEST_F(CallLogTest, LogsOneOf1024CallsThatSucceed) {
  for (int i = 0; i < 2048; ++i) {
    EXPECT_TRUE(Call(absl::OkStatus()).empty());
  }
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_EQ(lines_[0].message, "call");
  EXPECT_EQ(lines_[0].fields["code"], "OK");
  EXPECT_EQ(lines_[0].fields["request_id"].size(), 16u);
}

TEST_F(CallLogTest, LogsEveryCallForWhoAsksForDebugLines) {
  SetLogLevel(Severity::kDebug);
  for (int i = 0; i < 50; ++i) Call(absl::OkStatus());
  EXPECT_EQ(lines_.size(), 50u);
}

TEST_F(CallLogTest, LogsNothingBelowItsLevel) {
  SetLogLevel(Severity::kError);
  EXPECT_THAT(Call(NotFoundError("vms/a")), Contains(Key("x-request-id")))
      << "the caller is told all the same";
  EXPECT_TRUE(lines_.empty());
  Call(InternalError("x"));
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(CallLogTest, LogsACallThatTakesLongerThan100Milliseconds) {
  Call(absl::OkStatus(), absl::Milliseconds(100));
  EXPECT_TRUE(lines_.empty());
  Call(absl::OkStatus(), absl::Milliseconds(100) + absl::Microseconds(1));
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0].message, "slow call");
}

TEST_F(CallLogTest, TakesALongStreamThatItsCallerEndsForNothingSpecial) {
  Call(absl::OkStatus(), absl::Hours(1), /*is_stream=*/true);
  Call(MakeError(ErrorReason::kCancelled, "x"), absl::Hours(1), true);
  EXPECT_TRUE(lines_.empty());
  Call(MakeError(ErrorReason::kStreamTooSlow, "x"), absl::Hours(1), true);
  Call(MakeError(ErrorReason::kCancelled, "x"), absl::Seconds(1), false);
  EXPECT_EQ(lines_.size(), 2u);
}

TEST_F(CallLogTest, LimitsTheLinesOfAPeerAndSaysHowManyItLeftOut) {
  for (int i = 0; i < 100; ++i) Call(NotFoundError("vms/a"));
  EXPECT_EQ(lines_.size(), 10u);
  peer_ = nullptr;
  Call(NotFoundError("vms/a"));
  EXPECT_EQ(lines_.size(), 11u) << "another peer has its own";
  EXPECT_EQ(lines_.back().fields["peer"], "unknown");

  peer_ = std::make_shared<const Peer>(Peer{.identity = "uid:7", .id = 7});
  now_ += absl::Seconds(1);
  Call(NotFoundError("vms/a"));
  ASSERT_EQ(lines_.size(), 13u);
  EXPECT_EQ(lines_[11].message, "lines of this peer were left out");
  EXPECT_EQ(lines_[11].fields["count"], "90");
  EXPECT_EQ(lines_[11].fields["peer"], "uid:7");

  std::vector<prometheus::MetricFamily> families;
  log_.Collect(families);
  EXPECT_EQ(families[0].name, "tdpd_log_lines_left_out_total");
  EXPECT_EQ(families[0].metric[0].counter.value, 90);
}

}  // namespace
}  // namespace tdp::server
