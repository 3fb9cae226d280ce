// What must hold for the answer to every request, whatever is in it.
//
// Thread safety: free functions. What does not hold ends the process.

#ifndef SERVER_FUZZ_ANSWER_CHECK_H_
#define SERVER_FUZZ_ANSWER_CHECK_H_

#include <cstdint>
#include <set>

#include "google/protobuf/message.h"
#include "server/fuzz/fuzzed_methods.h"

namespace tdp::server {

// Numbers that a client has sent, so that it may see them again.
using KnownNumbers = std::set<uint64_t>;
void AddNumbersOf(const google::protobuf::Message& request, KnownNumbers& out);

// - An error has the code of its reason and, on the wire, exactly one ErrorInfo
//   of ours, a message that is neither empty nor long, and valid UTF-8
//   throughout. It is not INTERNAL.
// - A reply can be sent: it is not too large and valid UTF-8 throughout.
// - Neither has a number that looks like an address of this process, unless the
//   client knows it.
// - No entry that a reply shows has the address of a table.
void CheckAnswer(const FuzzedMethod& method, const Answer& answer,
                 const KnownNumbers& known);

}  // namespace tdp::server

#endif  // SERVER_FUZZ_ANSWER_CHECK_H_
