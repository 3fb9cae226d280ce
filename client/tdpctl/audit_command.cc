// tdpctl audit: do the tables and the host agree?

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/audit_sum.h"
#include "client/lib/page_level.h"
#include "client/lib/progress_bar.h"
#include "client/lib/spte_text.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

constexpr int kMaxDivergences = 100;

struct AuditArgs {
  std::string vm;
  std::optional<FrameRange> range;
};

// Audits `ranges` and adds up what it finds.
absl::Status AuditInto(Session& session, const std::string& vm,
                       const std::vector<FrameRange>& ranges,
                       v1::AuditRangeResponse& sum) {
  uint64_t total = 0;
  for (const FrameRange range : ranges) {
    total += range.end_gfn - range.start_gfn;
  }
  ProgressBar bar(session.progress_place(), "audit", total << kFrameShift);
  uint64_t done = 0;
  for (const FrameRange range : ranges) {
    v1::AuditRangeRequest request;
    request.set_vm(vm);
    request.mutable_range()->set_start_gfn(range.start_gfn);
    request.mutable_range()->set_end_gfn(range.end_gfn);
    request.set_max_divergences(kMaxDivergences);
    const auto part =
        session.client().AuditRange(request, [&](uint64_t next_gfn) {
          bar.Update((done + next_gfn - range.start_gfn) << kFrameShift);
        });
    if (!part.ok()) return part.status();
    AddAudit(*part, kMaxDivergences, sum);
    done += range.end_gfn - range.start_gfn;
  }
  return absl::OkStatus();
}

absl::Status AuditEveryMemslot(Session& session, const std::string& vm,
                               v1::AuditRangeResponse& sum) {
  const auto slots = session.client().ListMemslots(vm);
  if (!slots.ok()) return slots.status();
  std::vector<FrameRange> ranges;
  for (const v1::Memslot& slot : slots->memslots()) {
    ranges.push_back(
        {slot.base_gfn(),
         slot.base_gfn() + static_cast<uint64_t>(slot.frame_count())});
  }
  return AuditInto(session, vm, ranges, sum);
}

void PrintAudit(const v1::AuditRangeResponse& audit, std::ostream& out) {
  out << "compared " << CountText(audit.compared_frame_count(), "frame") << ": "
      << audit.divergent_frame_count() << " divergent, "
      << audit.host_stricter_frame_count() << " stricter on the host\n";
  if (audit.divergences().empty()) return;
  out << "\n";
  Table table({{"ADDRESS"}, {"LEVEL"}, {"ENGINE"}, {"ACCESS"}, {"HOST"}});
  for (const v1::Divergence& divergence : audit.divergences()) {
    const v1::Spte& spte = divergence.engine();
    table.AddRow({FormatFrameAddress(divergence.gfn()), LevelText(spte.level()),
                  StateText(spte), LeafAccessText(spte),
                  absl::StrCat(divergence.host_present() ? "r" : "-",
                               divergence.host_writable() ? "w" : "-")});
  }
  table.Flush(out);
}

absl::Status RunAudit(Session& session, const AuditArgs& args) {
  v1::AuditRangeResponse sum;
  const absl::Status status =
      args.range ? AuditInto(session, args.vm, {*args.range}, sum)
                 : AuditEveryMemslot(session, args.vm, sum);
  if (!status.ok()) return status;
  if (session.json()) {
    session.PrintJson(sum);
  } else {
    PrintAudit(sum, session.out());
  }
  if (sum.divergent_frame_count() > 0) {
    session.Fail(absl::StrCat("the host grants more than the tables on ",
                              CountText(sum.divergent_frame_count(), "frame")));
  }
  return absl::OkStatus();
}

}  // namespace

void AddAuditCommand(CommandSet& commands) {
  auto command = commands.Add(
      commands.root(), "audit",
      "Compare the tables with what the host enforces; exits 1 if they differ",
      RunAudit);
  AuditArgs* args = command.args.get();
  command.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  command.parameters.Add(
      {.name = "RANGE",
       .description = "Frames to compare; every memslot unless given"},
      ParseFrameRange, [=](FrameRange range) { args->range = range; });
}

}  // namespace tdp::client
