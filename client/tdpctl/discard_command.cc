// tdpctl discard: gives guest memory back to the host.

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "client/tdpctl/range_parameters.h"
#include "client/tdpctl/ranged_progress.h"

namespace tdp::client {
namespace {

absl::Status RunDiscard(Session& session,
                        const v1::DiscardRangeRequest& request) {
  const auto response =
      CallWithProgress(session, "discard", &Client::DiscardRange, request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  const uint64_t frames =
      request.range().end_gfn() - request.range().start_gfn();
  const auto freed = static_cast<uint64_t>(response->freed_bytes());
  session.out() << "discarded " << FramesText(static_cast<int64_t>(frames))
                << (freed == 0 ? ", but nothing was freed"
                               : absl::StrCat("; freed ", FormatSize(freed)))
                << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddDiscardCommand(CommandSet& commands) {
  auto command = commands.Add(
      commands.root(), "discard",
      "Give the memory of a range back to the host; it reads as zero then",
      RunDiscard);
  AddVmAndRange(command.parameters, command.args.get(),
                "Frames to discard, e.g. 16M..32M");
}

}  // namespace tdp::client
