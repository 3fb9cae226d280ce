// What metrics and the log add to a call that succeeds.

#include "absl/time/clock.h"
#include "benchmark/benchmark.h"
#include "grpcpp/server_context.h"
#include "server/observe/call_log.h"
#include "server/observe/rpc_metrics.h"
#include "server/rpc/call_context.h"

namespace tdp::server {
namespace {

void BM_Gates_CallThatSucceeds(benchmark::State& state) {
  static RpcMetrics& metrics = *[] {
    auto* const made = new RpcMetrics;
    made->SetMethods({{.name = "A.B"}});
    return made;
  }();
  static CallLog& log =
      *new CallLog({.write = [](Severity, absl::string_view,
                                absl::Span<const LogField>) {}});
  const MethodTraits traits = {.name = "A.B"};
  CallContext context;
  context.set_method(&traits);
  grpc::ServerContext transport;
  const absl::Status ok;
  for (auto _ : state) {
    context.set_start_time(absl::Now());
    metrics.Enter(transport, context).IgnoreError();
    log.Enter(transport, context).IgnoreError();
    metrics.Completing(transport, context, ok);
    log.Completing(transport, context, ok);
    log.Leave(context, absl::StatusCode::kOk);
    metrics.Leave(context, absl::StatusCode::kOk);
  }
}
BENCHMARK(BM_Gates_CallThatSucceeds)->Threads(1)->Threads(2);

}  // namespace
}  // namespace tdp::server

BENCHMARK_MAIN();
