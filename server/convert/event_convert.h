// Events, from the engine to the API, and verdicts the other way.

#ifndef SERVER_CONVERT_EVENT_CONVERT_H_
#define SERVER_CONVERT_EVENT_CONVERT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_types.h"
#include "tdp/v1/event_service.pb.h"

namespace tdp::server {

void ToProto(const WaitingAccess& access, v1::AccessWaiting* out);
// `vm` is the id of the VM that the event is about.
void ToProto(absl::string_view vm, const Event& event, v1::Event* out);

absl::StatusOr<Verdict> VerdictFrom(absl::string_view field,
                                    v1::ResolveAccessRequest::Verdict verdict);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_EVENT_CONVERT_H_
