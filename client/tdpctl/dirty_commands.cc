// tdpctl dirty read|clear|watch and dirty consumer create|list|delete.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/lib/address.h"
#include "client/lib/bitmap.h"
#include "client/lib/duration.h"
#include "client/lib/names.h"
#include "client/lib/progress_bar.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/run_table.h"

namespace tdp::client {
namespace {

constexpr absl::Duration kDefaultInterval = absl::Seconds(1);
constexpr double kBytesPerMib = 1 << 20;

struct DirtyArgs {
  std::string vm;
  std::string slot;
  std::string consumer;  // the daemon's default if empty
  std::optional<FrameRange> range;
};

struct WatchArgs {
  DirtyArgs dirty;
  absl::Duration interval = kDefaultInterval;
  int64_t count = std::numeric_limits<int64_t>::max();
};

struct ConsumerArgs {
  std::string vm;
  std::string consumer;
};

v1::ReadDirtyLogRequest RequestFor(const DirtyArgs& args) {
  v1::ReadDirtyLogRequest request;
  request.set_memslot(MemslotName(args.vm, args.slot));
  if (args.range) {
    request.mutable_range()->set_start_gfn(args.range->start_gfn);
    request.mutable_range()->set_end_gfn(args.range->end_gfn);
  }
  request.set_sparse(true);
  if (!args.consumer.empty()) {
    request.set_consumer(DirtyConsumerName(args.vm, args.consumer));
  }
  return request;
}

// Frames of `range` up to the end of `bitmap`; chunks without a dirty frame are
// left out of a sparse stream.
uint64_t FramesUpTo(const v1::Bitmap& bitmap, FrameRange range) {
  const uint64_t end =
      bitmap.first_gfn() + static_cast<uint64_t>(bitmap.frame_count());
  return std::clamp(end, range.start_gfn, range.end_gfn) - range.start_gfn;
}

// Adds the bitmaps with dirty frames of the range to `dirty`, those that came
// before an error too.
absl::Status Read(Session& session, const DirtyArgs& args,
                  std::vector<v1::Bitmap>& dirty) {
  std::optional<uint64_t> total_bytes;
  if (args.range) {
    total_bytes = (args.range->end_gfn - args.range->start_gfn) << kFrameShift;
  }
  ProgressBar bar(session.progress_place(), "read", total_bytes);
  uint64_t read_frames = 0;
  return session.client().ReadDirtyLog(
      RequestFor(args), [&](const v1::ReadDirtyLogResponse& response) {
        v1::Bitmap bitmap = response.dirty();
        read_frames += static_cast<uint64_t>(bitmap.frame_count());
        bar.Update((args.range ? FramesUpTo(bitmap, *args.range) : read_frames)
                   << kFrameShift);
        if (args.range) ClearBitsOutside(*args.range, bitmap);
        if (CountBits(bitmap) > 0) dirty.push_back(std::move(bitmap));
        return true;
      });
}

// Clears exactly the bits that it reads; none if not all could be read.
absl::StatusOr<v1::ClearDirtyLogResponse> ReadAndClear(Session& session,
                                                       const DirtyArgs& args) {
  std::vector<v1::Bitmap> dirty;
  const absl::Status status = Read(session, args, dirty);
  if (!status.ok()) return status;
  if (dirty.empty()) return v1::ClearDirtyLogResponse();
  const v1::ReadDirtyLogRequest request = RequestFor(args);
  uint64_t frames = 0;
  for (const v1::Bitmap& bitmap : dirty) {
    frames += static_cast<uint64_t>(bitmap.frame_count());
  }
  ProgressBar bar(session.progress_place(), "clear", frames << kFrameShift);
  return session.client().ClearDirtyLog(
      request.memslot(), request.consumer(), dirty,
      [&](uint64_t done_bytes) { bar.Update(done_bytes); });
}

absl::Status RunRead(Session& session, const DirtyArgs& args) {
  if (session.json()) {
    return session.client().ReadDirtyLog(
        RequestFor(args), [&](const v1::ReadDirtyLogResponse& response) {
          session.PrintJson(response);
          return true;
        });
  }
  std::vector<v1::Bitmap> dirty;
  const absl::Status status = Read(session, args, dirty);
  // Of a stream that broke, what came before is shown.
  if (!status.ok() && dirty.empty()) return status;
  int64_t frames = 0;
  for (const v1::Bitmap& bitmap : dirty) frames += CountBits(bitmap);
  session.out() << FramesText(frames) << " dirty\n";
  PrintRuns("DIRTY", dirty, session.out());
  return status;
}

absl::Status RunClear(Session& session, const DirtyArgs& args) {
  const auto response = ReadAndClear(session, args);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "cleared " << FramesText(response->cleared_frame_count())
                  << "\n";
  }
  return absl::OkStatus();
}

// Prints a row for each round. The first tells what was dirty before, which has
// no rate.
class RatePrinter {
 public:
  explicit RatePrinter(std::ostream& out)
      : out_(out),
        table_({{"SECONDS", Align::kRight},
                {"FRAMES", Align::kRight, kCountWidth},
                {"SIZE", Align::kRight, kCountWidth},
                {"FRAMES/S", Align::kRight, kCountWidth},
                {"MIB/S", Align::kRight, kCountWidth}}) {}

  void Print(absl::Time time, int64_t frames) {
    if (!first_) first_ = time;
    const double elapsed = last_ ? absl::ToDoubleSeconds(time - *last_) : 0;
    last_ = time;
    const uint64_t bytes = static_cast<uint64_t>(frames) << kFrameShift;
    const double mib = static_cast<double>(bytes) / kBytesPerMib;
    table_.AddRow(
        {absl::StrFormat("%.1f", absl::ToDoubleSeconds(time - *first_)),
         absl::StrCat(frames), FormatSize(bytes),
         RateText(static_cast<double>(frames), elapsed, 0),
         RateText(mib, elapsed, 1)});
    table_.Flush(out_);
    out_.flush();
  }

 private:
  static constexpr size_t kCountWidth = 8;

  static std::string RateText(double amount, double seconds, int digits) {
    return seconds > 0 ? absl::StrFormat("%.*f", digits, amount / seconds)
                       : "-";
  }

  std::ostream& out_;
  Table table_;
  std::optional<absl::Time> first_;
  std::optional<absl::Time> last_;
};

absl::Status RunWatch(Session& session, const WatchArgs& args) {
  RatePrinter printer(session.out());
  absl::Time next = absl::Now();
  for (int64_t round = 0; round < args.count; ++round) {
    absl::SleepFor(next - absl::Now());
    const absl::Time time = absl::Now();
    // A round that took too long delays the ones after it.
    next = std::max(next + args.interval, time);
    const auto response = ReadAndClear(session, args.dirty);
    if (!response.ok()) return response.status();
    if (session.json()) {
      session.PrintJson(*response);
    } else {
      printer.Print(time, response->cleared_frame_count());
    }
  }
  return absl::OkStatus();
}

// Prints the names of consumers.
template <typename Consumers>
void PrintConsumers(const Consumers& consumers, std::ostream& out) {
  Table table({{"NAME"}});
  for (const v1::DirtyConsumer& consumer : consumers) {
    table.AddRow({consumer.name()});
  }
  table.Flush(out);
}

absl::Status RunCreateConsumer(Session& session,
                               const v1::CreateDirtyConsumerRequest& request) {
  const auto response = session.client().CreateDirtyConsumer(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    PrintConsumers(absl::MakeConstSpan(&response->dirty_consumer(), 1),
                   session.out());
  }
  return absl::OkStatus();
}

absl::Status RunListConsumers(Session& session, const ConsumerArgs& args) {
  const auto response = session.client().ListDirtyConsumers(args.vm);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    PrintConsumers(response->dirty_consumers(), session.out());
  }
  return absl::OkStatus();
}

absl::Status RunDeleteConsumer(Session& session, const ConsumerArgs& args) {
  v1::DeleteDirtyConsumerRequest request;
  request.set_name(DirtyConsumerName(args.vm, args.consumer));
  const auto response = session.client().DeleteDirtyConsumer(request);
  return session.PrintDeleted(response, request.name());
}

// Adds "VM SLOT [RANGE]" and "--consumer".
void AddDirtyParameters(Parameters& parameters, DirtyArgs* args,
                        const std::string& description) {
  parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  parameters.AddText({.name = "SLOT",
                      .description = "Name of the memslot",
                      .presence = Presence::kRequired},
                     [=](const std::string& id) { args->slot = id; });
  parameters.Add(
      {.name = "RANGE",
       .description = absl::StrCat(
           description, ", e.g. 0..64M; the whole memslot unless given")},
      ParseFrameRange, [=](FrameRange range) { args->range = range; });
  parameters.AddText({.name = "--consumer",
                      .description = "Whose view; each consumer clears its own",
                      .shown_default = "default"},
                     [=](const std::string& id) { args->consumer = id; });
}

void AddWatch(CommandSet& commands, CommandSet::Group group) {
  auto command = commands.Add(
      group, "watch",
      "Read and clear again and again, and show how fast frames get dirty",
      RunWatch);
  WatchArgs* args = command.args.get();
  AddDirtyParameters(command.parameters, &args->dirty, "Frames to watch");
  command.parameters.Add(
      {.name = "--interval",
       .description = "Time between two rounds, e.g. 10, 500ms, 2m",
       .shown_default = "1s"},
      ParsePositiveDuration,
      [=](absl::Duration interval) { args->interval = interval; });
  command.parameters.Add(
      {.name = "--count",
       .description = "End after this many rounds; never unless given"},
      ParseCount, [=](int64_t count) { args->count = count; });
}

void AddConsumerCommands(CommandSet& commands, CommandSet::Group parent) {
  const CommandSet::Group group = commands.AddGroup(
      parent, "consumer", "Add, show and remove the consumers of a VM's log");
  auto create = commands.Add(group, "create",
                             "Add a consumer; it sees the writes that follow",
                             RunCreateConsumer);
  v1::CreateDirtyConsumerRequest* request = create.args.get();
  create.parameters.AddVm(
      [=](const std::string& vm) { request->set_parent(vm); });
  create.parameters.AddText(
      {.name = "CONSUMER",
       .description = "Name of the new consumer",
       .presence = Presence::kRequired},
      [=](const std::string& id) { request->set_dirty_consumer_id(id); });
  auto list = commands.Add(group, "list", "Show every consumer of a VM",
                           RunListConsumers);
  ConsumerArgs* listed = list.args.get();
  list.parameters.AddVm([=](const std::string& vm) { listed->vm = vm; });
  auto remove =
      commands.Add(group, "delete", "Remove a consumer, but not \"default\"",
                   RunDeleteConsumer);
  ConsumerArgs* removed = remove.args.get();
  remove.parameters.AddVm([=](const std::string& vm) { removed->vm = vm; });
  remove.parameters.AddText(
      {.name = "CONSUMER",
       .description = "Name of the consumer",
       .presence = Presence::kRequired},
      [=](const std::string& id) { removed->consumer = id; });
}

}  // namespace

void AddDirtyCommands(CommandSet& commands) {
  const CommandSet::Group group = commands.AddGroup(
      "dirty",
      "Show and clear which frames of a memslot were written; turn the log on "
      "with \"slot update VM SLOT --dirty-log=on\"");
  auto read = commands.Add(group, "read",
                           "Show the dirty frames; they stay dirty", RunRead);
  AddDirtyParameters(read.parameters, read.args.get(), "Frames to read");
  auto clear =
      commands.Add(group, "clear",
                   "Read the dirty frames and clear exactly those", RunClear);
  AddDirtyParameters(clear.parameters, clear.args.get(), "Frames to clear");
  AddWatch(commands, group);
  AddConsumerCommands(commands, group);
}

}  // namespace tdp::client
