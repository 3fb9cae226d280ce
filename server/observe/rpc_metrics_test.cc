#include "server/observe/rpc_metrics.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"
#include "server/rpc/call_context.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;

class RpcMetricsTest : public testing::Test {
 protected:
  RpcMetricsTest() {
    for (const char* name :
         {"(unknown)", "VmService.GetVm", "ServerReflection.Info",
          "ServerReflection.Info"}) {
      traits_.push_back(
          {.name = name, .index = static_cast<int>(traits_.size())});
    }
    metrics_.SetMethods(traits_);
  }
  std::unique_ptr<CallContext> Enter(int method,
                                     absl::Duration age = absl::Seconds(0)) {
    auto context = std::make_unique<CallContext>();
    context->set_method(&traits_[static_cast<size_t>(method)]);
    context->set_start_time(absl::Now() - age);
    grpc::ServerContext transport;
    EXPECT_TRUE(metrics_.Enter(transport, *context).ok());
    return context;
  }
  std::string Text() const {
    std::vector<prometheus::MetricFamily> families;
    metrics_.Collect(families);
    return ToPrometheusText(families);
  }

  std::vector<MethodTraits> traits_;
  RpcMetrics metrics_;
};

constexpr char kGetVm[] = "{service=\"VmService\",method=\"GetVm\"";

TEST_F(RpcMetricsTest, CountsACallFromItsStartToItsEnd) {
  const auto call = Enter(1, absl::Seconds(3));
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("tdpd_rpc_started_total", kGetVm,
                                             "} 1\n")));
  EXPECT_THAT(Text(),
              HasSubstr(absl::StrCat("tdpd_rpc_in_flight", kGetVm, "} 1\n")));
  metrics_.Leave(*call, absl::StatusCode::kNotFound);
  EXPECT_THAT(Text(),
              HasSubstr(absl::StrCat("tdpd_rpc_in_flight", kGetVm, "} 0\n")));
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("tdpd_rpc_handled_total", kGetVm,
                                             ",code=\"NOT_FOUND\"} 1\n")));
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("tdpd_rpc_handled_total", kGetVm,
                                             ",code=\"OK\"} 0\n")));
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("duration_seconds_bucket", kGetVm,
                                             ",le=\"2.097152\"} 0\n")));
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("duration_seconds_count", kGetVm,
                                             "} 1\n")));
}

TEST_F(RpcMetricsTest, TakesNoTimeForACallThatTheClockPutsInTheFuture) {
  const auto call = Enter(1, -absl::Hours(1));
  metrics_.Leave(*call, absl::StatusCode::kOk);
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("duration_seconds_bucket", kGetVm,
                                             ",le=\"1.6e-05\"} 1\n")));
  EXPECT_THAT(Text(),
              HasSubstr(absl::StrCat("duration_seconds_sum", kGetVm, "} 0\n")));
}

TEST_F(RpcMetricsTest, CountsWhateverNobodyServesAsOneMethod) {
  metrics_.Leave(*Enter(0), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Text(), HasSubstr("{service=\"unknown\",method=\"unknown\","
                                "code=\"UNIMPLEMENTED\"} 1\n"));
  EXPECT_THAT(Text(), Not(HasSubstr("(unknown)")));
}

TEST_F(RpcMetricsTest, AddsUpMethodsOfTheSameName) {
  metrics_.Leave(*Enter(2), absl::StatusCode::kOk);
  metrics_.Leave(*Enter(3), absl::StatusCode::kOk);
  EXPECT_THAT(Text(), HasSubstr("handled_total{service=\"ServerReflection\","
                                "method=\"Info\",code=\"OK\"} 2\n"));
}

TEST_F(RpcMetricsTest, CountsACodeThatIsNoneAsUnknown) {
  metrics_.Leave(*Enter(1), static_cast<absl::StatusCode>(77));
  EXPECT_THAT(Text(), HasSubstr("code=\"UNKNOWN\"} 1\n"));
}

TEST_F(RpcMetricsTest, IgnoresAMethodThatItWasNotToldOf) {
  const MethodTraits stranger = {.name = "A.B", .index = 4};
  CallContext context;
  context.set_method(&stranger);
  grpc::ServerContext transport;
  EXPECT_TRUE(metrics_.Enter(transport, context).ok());
  metrics_.Leave(context, absl::StatusCode::kOk);
  EXPECT_THAT(Text(), Not(HasSubstr("method=\"B\"")));
}

// Threads that own a shard, and more of them than there are shards; each ends a
// call that another one began, while somebody scrapes.
TEST_F(RpcMetricsTest, LosesNothingThatManyThreadsCount) {
  constexpr int kThreads = CounterShard::kCount + 16;
  constexpr int kCalls = 200;
  std::vector<std::unique_ptr<CallContext>> begun;
  for (int i = 0; i < kThreads; ++i) begun.push_back(Enter(1));
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, &begun, i] {
      metrics_.Leave(*begun[static_cast<size_t>(i)], absl::StatusCode::kOk);
      for (int j = 0; j < kCalls; ++j) {
        metrics_.Leave(*Enter(1), absl::StatusCode::kOk);
      }
    });
  }
  for (int i = 0; i < 10; ++i) EXPECT_THAT(Text(), Not(HasSubstr("} -")));
  for (std::thread& thread : threads) thread.join();
  const int total = kThreads * (kCalls + 1);
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("tdpd_rpc_started_total", kGetVm,
                                             "} ", total, "\n")));
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("tdpd_rpc_handled_total", kGetVm,
                                             ",code=\"OK\"} ", total, "\n")));
  EXPECT_THAT(Text(),
              HasSubstr(absl::StrCat("tdpd_rpc_in_flight", kGetVm, "} 0\n")));
}

}  // namespace
}  // namespace tdp::server
