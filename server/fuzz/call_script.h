// CallScript: an input of the handlers' fuzzers, as text: calls, one after the
// other, a line for each message.
//
//   # what follows a "#" at the start of a line is a comment
//   VmService.CreateVm vm_id: "x" vm { vcpu_count: 1 }
//   GuestMemoryService.WriteGuestMemory vm: "vms/a" data: "\001"
//   + gpa: 4096 data: "\002"
//   VmService.GetVm = "\n\005vms/x"
//
// A message is in protobuf's text format or, after a "=", the escaped bytes as
// they come from the wire. "+" is one more message of the same stream.
//
// Thread safety: values and free functions.

#ifndef SERVER_FUZZ_CALL_SCRIPT_H_
#define SERVER_FUZZ_CALL_SCRIPT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/fuzz/fuzzed_methods.h"

namespace tdp::server {

struct ScriptedCall {
  const FuzzedMethod* method;
  std::vector<std::string> messages;  // as they come from the wire
};

using CallScript = std::vector<ScriptedCall>;

// At most so many calls, and messages of one call.
inline constexpr size_t kMaxScriptedCalls = 12;
inline constexpr size_t kMaxScriptedMessages = 6;

// Nothing if the text is no script.
std::optional<CallScript> ParseScript(absl::string_view text);
std::string PrintScript(const CallScript& script);

}  // namespace tdp::server

#endif  // SERVER_FUZZ_CALL_SCRIPT_H_
