// tdpctl heatmap: memslots as maps of characters.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/lib/address.h"
#include "client/lib/duration.h"
#include "client/lib/heatmap.h"
#include "client/lib/heatmap_text.h"
#include "client/lib/live_block.h"
#include "client/lib/names.h"
#include "client/lib/terminal.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/ranged_progress.h"

namespace tdp::client {
namespace {

constexpr int kWidth = 64;
constexpr int kMinWidth = 8;
constexpr int kMaxWidth = 1024;
constexpr int kRows = 32;
// "gfn:0x123456789  ", before the cells of a row.
constexpr int kFrameWidth = 17;

struct HeatmapArgs {
  std::string vm;
  std::string slot;  // every memslot if empty
  std::optional<FrameRange> range;
  std::optional<int> width;
  std::string consumer = "default";
  std::optional<absl::Duration> interval;
  int64_t count = std::numeric_limits<int64_t>::max();
};

absl::StatusOr<int> ParseWidth(absl::string_view text) {
  const absl::StatusOr<int32_t> width = ParseInteger<int32_t>(text);
  if (!width.ok()) return width.status();
  if (*width < 1 || *width > kMaxWidth) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not in 1..", kMaxWidth));
  }
  return *width;
}

// Cells in a row, and rows for each memslot.
struct Geometry {
  int width = kWidth;
  int rows = kRows;
};

// A block that is redrawn must fit the terminal. A power of two keeps the
// first frames of rows round.
Geometry GeometryFor(const Session& session, const HeatmapArgs& args,
                     int memslot_count) {
  Geometry geometry;
  const Terminal& terminal = session.out_terminal();
  if (terminal.exists() && !session.json()) {
    const TerminalSize size = terminal.size();
    geometry.width = kMinWidth;
    while (geometry.width * 2 + kFrameWidth <= size.columns &&
           geometry.width * 2 <= kMaxWidth) {
      geometry.width *= 2;
    }
    // One row for the legend and one for the cursor.
    const int rows = (size.rows - 2) / std::max(1, memslot_count);
    geometry.rows = std::max(1, rows - kHeatmapHeaderRows);
  }
  if (args.width) geometry.width = *args.width;
  return geometry;
}

// The memslots that are asked for.
absl::StatusOr<std::vector<v1::Memslot>> FindMemslots(Session& session,
                                                      const HeatmapArgs& args) {
  std::vector<v1::Memslot> slots;
  if (args.slot.empty()) {
    auto list = session.client().ListMemslots(args.vm);
    if (!list.ok()) return list.status();
    slots.assign(list->memslots().begin(), list->memslots().end());
  } else {
    v1::GetMemslotRequest request;
    request.set_name(MemslotName(args.vm, args.slot));
    const auto response = session.client().GetMemslot(request);
    if (!response.ok()) return response.status();
    slots.push_back(response->memslot());
  }
  return slots;
}

// What of a memslot is shown; empty if it is outside of the range.
FrameRange ShownFrames(const v1::Memslot& slot, const HeatmapArgs& args) {
  FrameRange frames = {
      slot.base_gfn(),
      slot.base_gfn() + static_cast<uint64_t>(slot.frame_count())};
  if (args.range) {
    frames.start_gfn = std::max(frames.start_gfn, args.range->start_gfn);
    frames.end_gfn = std::min(frames.end_gfn, args.range->end_gfn);
  }
  return frames;
}

absl::Status ReadDirtyLog(Session& session, const v1::Memslot& slot,
                          const std::string& consumer, Heatmap& heatmap) {
  v1::ReadDirtyLogRequest request;
  request.set_memslot(slot.name());
  request.mutable_range()->set_start_gfn(heatmap.range().start_gfn);
  request.mutable_range()->set_end_gfn(heatmap.range().end_gfn);
  request.set_sparse(true);
  request.set_consumer(consumer);
  return session.client().ReadDirtyLog(
      request, [&](const v1::ReadDirtyLogResponse& response) {
        heatmap.AddDirtyLog(response.dirty());
        return true;
      });
}

absl::Status Walk(Session& session, const std::string& vm, Heatmap& heatmap) {
  v1::WalkRangeRequest request;
  request.set_vm(vm);
  request.mutable_range()->set_start_gfn(heatmap.range().start_gfn);
  request.mutable_range()->set_end_gfn(heatmap.range().end_gfn);
  request.set_leaves_only(true);
  request.set_present_only(true);
  RangedProgress progress(session, "walk", heatmap.range());
  const absl::Status status = session.client().WalkRange(
      request, [&](const v1::WalkRangeResponse& batch) {
        heatmap.AddWalk(batch);
        progress.Update(heatmap.reached_gfn());
        return true;
      });
  if (status.ok()) heatmap.EndWalk();
  return status;
}

// Appends the map of one memslot to `text`, what was seen before an error too.
absl::Status AddMap(Session& session, const HeatmapArgs& args,
                    const v1::Memslot& slot, const Geometry& geometry,
                    std::string& text) {
  const FrameRange frames = ShownFrames(slot, args);
  const uint64_t max_cells =
      static_cast<uint64_t>(geometry.width) * geometry.rows;
  HeatmapLabels labels = {.memslot = slot.name()};
  if (slot.dirty_log_enabled()) {
    labels.consumer = DirtyConsumerName(args.vm, args.consumer);
  }
  Heatmap heatmap(frames,
                  FramesPerCell(frames.end_gfn - frames.start_gfn, max_cells),
                  slot.dirty_log_enabled() ? DirtySource::kDirtyLog
                                           : DirtySource::kDirtyBits);
  if (slot.dirty_log_enabled()) {
    const absl::Status status =
        ReadDirtyLog(session, slot, labels.consumer, heatmap);
    if (!status.ok()) return status;
  }
  const absl::Status status = Walk(session, args.vm, heatmap);
  if (!status.ok() && heatmap.reached_gfn() == frames.start_gfn) return status;
  if (session.json()) {
    absl::StrAppend(&text, HeatmapJson(heatmap, labels), "\n");
  } else {
    absl::StrAppend(&text,
                    HeatmapText(heatmap, labels,
                                {.width = geometry.width,
                                 .colors = session.out_terminal().colors}));
  }
  return status;
}

// Appends the maps of all memslots to `text`.
absl::Status AddMaps(Session& session, const HeatmapArgs& args,
                     std::string& text) {
  auto slots = FindMemslots(session, args);
  if (!slots.ok()) return slots.status();
  const auto outside = [&](const v1::Memslot& slot) {
    const FrameRange frames = ShownFrames(slot, args);
    return frames.start_gfn >= frames.end_gfn;
  };
  slots->erase(std::remove_if(slots->begin(), slots->end(), outside),
               slots->end());
  if (slots->empty()) {
    return absl::OutOfRangeError(
        args.range
            ? absl::StrCat(
                  "no frame of ", FormatFrameRange(*args.range), " lies in ",
                  args.slot.empty() ? "a memslot" : args.slot, " of ", args.vm)
            : absl::StrCat(args.vm, " has no memslot"));
  }
  const Geometry geometry =
      GeometryFor(session, args, static_cast<int>(slots->size()));
  absl::Status status;
  for (const v1::Memslot& slot : *slots) {
    status = AddMap(session, args, slot, geometry, text);
    if (!status.ok()) break;
  }
  if (!text.empty() && !session.json()) {
    text += HeatmapLegend(session.out_terminal().colors);
  }
  return status;
}

absl::Status RunHeatmap(Session& session, const HeatmapArgs& args) {
  if (!args.interval) {
    std::string text;
    const absl::Status status = AddMaps(session, args, text);
    session.out() << text;
    return status;
  }
  LiveBlock block(session.out_terminal(), session.out());
  absl::Time next = absl::Now();
  // Nobody is watching any more if the output is closed.
  for (int64_t round = 0; round < args.count && session.out().good(); ++round) {
    absl::SleepFor(next - absl::Now());
    // A round that took too long delays the ones after it.
    next = std::max(next + *args.interval, absl::Now());
    std::string text;
    const absl::Status status = AddMaps(session, args, text);
    if (session.json()) {
      session.out() << text << std::flush;
    } else if (!text.empty()) {
      block.Show(text);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

void AddHeatmapCommand(CommandSet& commands) {
  auto command = commands.Add(
      commands.root(), "heatmap",
      "Show memslots as maps of characters: what is unmapped, mapped, huge, "
      "young or dirty",
      RunHeatmap);
  Parameters& parameters = command.parameters;
  HeatmapArgs* args = command.args.get();
  parameters.AddText({.name = "WHERE",
                      .description = "VM, or VM/SLOT for one memslot of it",
                      .presence = Presence::kRequired},
                     [=](const std::string& path) {
                       args->vm = VmNameIn(path);
                       args->slot = MemslotIdIn(path);
                     });
  parameters.Add(
      {.name = "--range", .description = "Frames to show; all unless given"},
      ParseFrameRange, [=](FrameRange range) { args->range = range; });
  parameters.Add({.name = "--width",
                  .description = "Cells in a row; as the terminal has room "
                                 "unless given"},
                 ParseWidth, [=](int width) { args->width = width; });
  parameters.AddText(
      {.name = "--consumer",
       .description = "Whose view of the dirty log; where the log is off, the "
                      "Dirty bits of the entries are shown",
       .shown_default = "default"},
      [=](const std::string& id) { args->consumer = id; });
  parameters.Add(
      {.name = "--watch",
       .description = "Show it again at this interval, e.g. 10, 500ms, 2m; on "
                      "a terminal it is redrawn"},
      ParsePositiveDuration,
      [=](absl::Duration interval) { args->interval = interval; });
  parameters.Add({.name = "--count",
                  .description = "End after this many rounds; never unless "
                                 "given",
                  .needs = "--watch"},
                 ParseCount, [=](int64_t count) { args->count = count; });
}

}  // namespace tdp::client
