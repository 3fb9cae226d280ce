// tdpctl events: follows what happens to a VM.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/lib/call_error.h"
#include "client/lib/event_text.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

constexpr size_t kSequenceWidth = 6;

struct EventsArgs {
  v1::WatchEventsRequest request;
  int64_t count = std::numeric_limits<int64_t>::max();
};

void PrintEvent(const v1::Event& event, std::ostream& out) {
  const std::string sequence = absl::StrCat(event.sequence());
  const size_t padding =
      kSequenceWidth - std::min(kSequenceWidth, sequence.size());
  out << std::string(padding, ' ') << sequence << "  "
      << google::protobuf::util::TimeUtil::ToString(event.event_time()) << "  "
      << EventText(event) << std::endl;
}

absl::Status RunEvents(Session& session, const EventsArgs& args) {
  int64_t left = args.count;
  int64_t next_sequence = 0;
  const absl::Status status = session.client().WatchEvents(
      args.request, [&](v1::WatchEventsResponse response) {
        next_sequence = response.next_sequence();
        if (response.events().empty()) return true;  // a heartbeat
        if (response.events_size() > left) {
          response.mutable_events()->DeleteSubrange(
              static_cast<int>(left),
              response.events_size() - static_cast<int>(left));
          response.set_next_sequence(
              response.events(response.events_size() - 1).sequence() + 1);
        }
        left -= response.events_size();
        if (session.json()) {
          session.PrintJson(response);
        } else {
          for (const v1::Event& event : response.events()) {
            PrintEvent(event, session.out());
          }
        }
        return left > 0;
      });
  if (status.ok() || next_sequence == 0) return status;
  return WithSuffix(
      status, absl::StrCat(" (continue with --from=", next_sequence, ")"));
}

}  // namespace

void AddEventsCommand(CommandSet& commands) {
  auto command = commands.Add(
      commands.root(), "events",
      "Follow what happens to a VM, until it is deleted", RunEvents);
  EventsArgs* args = command.args.get();
  command.parameters.AddVm(
      [=](const std::string& vm) { args->request.set_vm(vm); });
  command.parameters.Add(
      {.name = "--from",
       .description =
           "First event to show, 1 for all; from now on unless given"},
      ParseInteger<int64_t>,
      [=](int64_t sequence) { args->request.set_start_sequence(sequence); });
  command.parameters.Add(
      {.name = "--count", .description = "End after this many events"},
      ParseCount, [=](int64_t count) { args->count = count; });
}

}  // namespace tdp::client
