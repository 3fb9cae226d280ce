#include "server/services/event_service.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"
#include "server/convert/event_convert.h"
#include "server/convert/paging.h"
#include "server/services/find_vm.h"

namespace tdp::server {
namespace {

constexpr size_t kEventsPerMessage = 256;

class EventSource final : public StreamSource<v1::WatchEventsResponse> {
 public:
  EventSource(CallContext& context, NamedVm vm, int64_t start_sequence,
              absl::Duration heartbeat)
      : vm_(std::move(vm)),
        next_sequence_(start_sequence),
        heartbeat_(heartbeat),
        heartbeat_time_(absl::InfinitePast()),
        listener_(vm_->AddEventListener(context.waker())) {}
  ~EventSource() override { vm_->RemoveEventListener(listener_); }

  absl::StatusOr<StreamStep> Next(CallContext& context,
                                  v1::WatchEventsResponse* message) override {
    TDP_ASSIGN_OR_RETURN(const EventBatch batch,
                         vm_->ReadEvents(next_sequence_, kEventsPerMessage));
    next_sequence_ = batch.next_sequence;
    if (batch.events.empty()) {
      if (batch.closed) return StreamStep::End();
      if (context.draining()) return DrainingError();
      if (absl::Now() < heartbeat_time_) {
        return StreamStep::Park(heartbeat_time_);
      }
    }
    for (const Event& event : batch.events) {
      ToProto(vm_.id, event, message->add_events());
    }
    message->set_next_sequence(next_sequence_);
    heartbeat_time_ = absl::Now() + heartbeat_;
    return StreamStep::Send();
  }

 private:
  const NamedVm vm_;
  int64_t next_sequence_;
  const absl::Duration heartbeat_;
  absl::Time heartbeat_time_;
  // Before the first read, so that no event falls between.
  const int64_t listener_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchEventsResponse>>>
EventHandler::WatchEvents(CallContext& context,
                          const v1::WatchEventsRequest& request) {
  TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", request.vm()));
  if (request.start_sequence() < 0) {
    return FieldError("start_sequence", absl::StrCat(request.start_sequence()),
                      "0 for \"from now on\", or the sequence of an event");
  }
  return std::make_unique<EventSource>(context, std::move(vm),
                                       request.start_sequence(), heartbeat_);
}

absl::Status EventHandler::ListWaitingAccesses(
    CallContext&, const v1::ListWaitingAccessesRequest& request,
    v1::ListWaitingAccessesResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const size_t page_size,
                       ParsePageSize(request.page_size()));
  const std::string list = absl::StrCat(request.vm(), "/waitingAccesses");
  TDP_ASSIGN_OR_RETURN(const std::optional<uint64_t> after,
                       ParseNumericPageToken(list, request.page_token()));
  PageBudget page(page_size);
  int64_t last = 0;
  // Ids grow, so the oldest access has the lowest.
  for (const WaitingAccess& access : vm->ListWaitingAccesses()) {
    if (after.has_value() &&
        static_cast<uint64_t>(access.access_id) <= *after) {
      continue;
    }
    v1::AccessWaiting item;
    ToProto(access, &item);
    if (!page.Take(item.ByteSizeLong())) {
      response->set_next_page_token(MakePageToken(list, absl::StrCat(last)));
      break;
    }
    *response->add_accesses() = std::move(item);
    last = access.access_id;
  }
  return absl::OkStatus();
}

absl::Status EventHandler::ResolveAccess(
    CallContext&, const v1::ResolveAccessRequest& request,
    v1::ResolveAccessResponse*) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  if (request.access_id() < 1) {
    return FieldError("access_id", absl::StrCat(request.access_id()),
                      "the access_id of an access that waits, 1 or more");
  }
  TDP_ASSIGN_OR_RETURN(const Verdict verdict,
                       VerdictFrom("verdict", request.verdict()));
  return vm->ResolveAccess(request.access_id(), verdict);
}

}  // namespace tdp::server
