// tdpctl walk: one frame, level by level, or a range with equal runs folded.

#include <algorithm>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/lib/address.h"
#include "client/lib/page_level.h"
#include "client/lib/spte_run_folder.h"
#include "client/lib/spte_text.h"
#include "client/lib/table.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

// Rows of a long walk that are held before they are printed.
constexpr size_t kRowsPerFlush = 512;
constexpr size_t kLevelWidth = 8;
constexpr size_t kAddressesWidth = 24;

using Where = std::variant<uint64_t, FrameRange>;

struct WalkArgs {
  std::string vm;
  Where where;
  bool leaves_only = false;
  bool present_only = false;
  v1::PageLevel min_level = v1::PAGE_LEVEL_UNSPECIFIED;
};

absl::StatusOr<Where> ParseWhere(absl::string_view text) {
  if (LooksLikeRange(text)) {
    const absl::StatusOr<FrameRange> range = ParseFrameRange(text);
    if (!range.ok()) return range.status();
    return Where(*range);
  }
  const absl::StatusOr<uint64_t> gfn = ParseFrame(text);
  if (!gfn.ok()) return gfn.status();
  return Where(*gfn);
}

void PrintPath(const v1::WalkGfnResponse& path, std::ostream& out) {
  Table table({{"LEVEL"},
               {"ADDRESSES"},
               {"STATE"},
               {"ACCESS"},
               {"PFN"},
               {"BITS"},
               {"ENTRY"}});
  for (const v1::Spte& spte : path.sptes()) {
    table.AddRow({LevelText(spte.level()), FormatFrameRange(FramesOf(spte)),
                  StateText(spte), LeafAccessText(spte), LeafPfnText(spte),
                  LeafBitsText(spte), absl::StrFormat("0x%016x", spte.raw())});
  }
  table.Flush(out);
}

absl::Status WalkFrame(Session& session, const WalkArgs& args, uint64_t gfn) {
  v1::WalkGfnRequest request;
  request.set_vm(args.vm);
  request.set_gfn(gfn);
  const auto response = session.client().WalkGfn(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    PrintPath(*response, session.out());
  }
  return absl::OkStatus();
}

// Prints runs as they end; lower levels are indented below their table.
class RunPrinter {
 public:
  explicit RunPrinter(std::ostream& out)
      : out_(out),
        table_({{"LEVEL", Align::kLeft, kLevelWidth},
                {"ADDRESSES", Align::kLeft, kAddressesWidth},
                {"ENTRIES", Align::kRight},
                {"STATE"},
                {"ACCESS"},
                {"PFN"},
                {"BITS"}}) {}

  void Print(const SpteRun& run) {
    top_level_ = std::max<int>(top_level_, run.first.level());
    const int indent = top_level_ - run.first.level();
    table_.AddRow({std::string(indent, ' ') + LevelText(run.first.level()),
                   FormatFrameRange(run.frames), absl::StrCat(run.entry_count),
                   StateText(run.first), LeafAccessText(run.first),
                   LeafPfnText(run.first), LeafBitsText(run.first)});
    if (table_.pending_row_count() >= kRowsPerFlush) Flush();
  }

  void Flush() { table_.Flush(out_); }

  bool has_rows() const { return table_.pending_row_count() > 0; }

 private:
  std::ostream& out_;
  Table table_;
  int top_level_ = 0;
};

absl::Status WalkFrames(Session& session, const WalkArgs& args,
                        FrameRange range) {
  v1::WalkRangeRequest request;
  request.set_vm(args.vm);
  request.mutable_range()->set_start_gfn(range.start_gfn);
  request.mutable_range()->set_end_gfn(range.end_gfn);
  request.set_min_level(args.min_level);
  request.set_leaves_only(args.leaves_only);
  request.set_present_only(args.present_only);
  if (session.json()) {
    return session.client().WalkRange(
        request, [&](const v1::WalkRangeResponse& response) {
          session.PrintJson(response);
          return true;
        });
  }
  RunPrinter printer(session.out());
  SpteRunFolder folder([&](const SpteRun& run) { printer.Print(run); });
  const absl::Status status = session.client().WalkRange(
      request, [&](const v1::WalkRangeResponse& response) {
        for (const v1::Spte& spte : response.sptes()) folder.Add(spte);
        return true;
      });
  folder.Finish();
  // Of a stream that broke, what came before is shown; an error at once has no
  // table.
  if (status.ok() || printer.has_rows()) printer.Flush();
  return status;
}

absl::Status RunWalk(Session& session, const WalkArgs& args) {
  if (const uint64_t* gfn = std::get_if<uint64_t>(&args.where)) {
    return WalkFrame(session, args, *gfn);
  }
  return WalkFrames(session, args, std::get<FrameRange>(args.where));
}

}  // namespace

void AddWalkCommand(CommandSet& commands) {
  auto command = commands.Add(
      commands.root(), "walk",
      "Show the entries on the path to one frame, or those of a range",
      RunWalk);
  Parameters& parameters = command.parameters;
  WalkArgs* args = command.args.get();
  parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  parameters.Add({.name = "WHERE",
                  .description = "An address, or a range",
                  .presence = Presence::kRequired},
                 ParseWhere, [=](Where where) { args->where = where; });
  parameters.AddFlag(
      {.name = "--leaves",
       .description = "In a range: skip entries that point to tables"},
      [=] { args->leaves_only = true; });
  parameters.AddFlag(
      {.name = "--present",
       .description = "In a range: skip entries that are not present"},
      [=] { args->present_only = true; });
  parameters.AddChoice<v1::PageLevel>(
      {.name = "--min-level",
       .description = "In a range: do not descend below this level"},
      LevelChoices(v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_256T),
      [=](v1::PageLevel level) { args->min_level = level; });
}

}  // namespace tdp::client
