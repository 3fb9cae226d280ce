// The state of the daemon as text, for a person who finds it in a state that
// the metrics do not explain. SIGUSR1 asks for it.
//
// Thread safety: the functions, from any thread.

#ifndef SERVER_OBSERVE_STATE_DUMP_H_
#define SERVER_OBSERVE_STATE_DUMP_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/rpc/server_core.h"

namespace tdp::server {

// A part of the dump: a title and what writes the lines below it. It takes
// milliseconds and never waits for a call.
struct StateSection {
  std::string title;
  std::function<std::string()> describe;
};

// "title:" and the lines, indented, of each section.
std::string DescribeSections(absl::Span<const StateSection> sections);

// What the sections of the daemon say.
std::string DescribeProcess(absl::Time now);
std::string DescribeExecutor(absl::string_view name, const Executor& executor);
// The oldest first, so many at most.
std::string DescribeCalls(std::vector<ActiveCall> calls, absl::Time now);
std::string DescribeVms(const VmRegistry& registry);

// Writes `text` to a new file of `folder` that only its owner can read, and
// returns its path.
absl::StatusOr<std::string> WriteStateFile(const std::string& folder,
                                           absl::string_view text,
                                           absl::Time now);

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_STATE_DUMP_H_
