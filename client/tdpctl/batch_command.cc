// tdpctl apply-batch: several operations as one change of the tables.

#include <string>

#include "absl/time/time.h"
#include "client/lib/mmu_operation.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

std::string DurationText(const google::protobuf::Duration& duration) {
  return absl::FormatDuration(absl::Nanoseconds(
      google::protobuf::util::TimeUtil::DurationToNanoseconds(duration)));
}

absl::Status RunApplyBatch(Session& session,
                           const v1::ApplyBatchRequest& request) {
  const auto response = session.client().ApplyBatch(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  session.out() << "changed "
                << CountText(response->changed_spte_count(), "entry", "entries")
                << " at once; held for "
                << DurationText(response->hold_duration()) << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddBatchCommand(CommandSet& commands) {
  auto [parameters, args] = commands.Add(
      commands.root(), "apply-batch",
      "Run several operations as one change of the tables", RunApplyBatch);
  v1::ApplyBatchRequest* request = args.get();
  parameters.AddVm([=](const std::string& vm) { request->set_vm(vm); });
  parameters.Add(
      {.name = "--op",
       .description = "zap:RANGE, protect:RANGE:none|read|read-write, "
                      "write-protect:RANGE[:MIN-LEVEL] or "
                      "map:RANGE[:write][:MAX-LEVEL]; may be given several "
                      "times",
       .presence = Presence::kRequired,
       .repeated = true},
      ParseMmuOperation, [=](const v1::MmuOperation& operation) {
        *request->add_operations() = operation;
      });
}

}  // namespace tdp::client
