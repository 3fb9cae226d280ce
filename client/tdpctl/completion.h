// Completion of command lines: the shells' scripts ask tdpctl itself what may
// come next, so that they never fall behind.
//
// Thread safety: free functions.

#ifndef CLIENT_TDPCTL_COMPLETION_H_
#define CLIENT_TDPCTL_COMPLETION_H_

#include <functional>
#include <string>
#include <vector>

#include "client/tdpctl/command_doc.h"

namespace tdp::client {

// Asked for the values of an argument ("VM", "SLOT"), given the arguments of
// the command before it; nothing if the daemon does not answer.
using ListValues = std::function<std::vector<std::string>(
    const std::string& argument, const std::vector<std::string>& before)>;

// What may stand in the place of the last of `words`, which follow "tdpctl".
// bash splits at "=" and ":", so that either may be a word of its own; then the
// candidates are what follows the last of them.
std::vector<std::string> Complete(const CommandDoc& root,
                                  std::vector<std::string> words,
                                  const ListValues& list_values);

// The words as they were before bash split them.
std::vector<std::string> JoinedWords(std::vector<std::string> words);

// The script that a shell reads, for "bash", "zsh" or "fish"; else null.
const char* CompletionScript(const std::string& shell);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_COMPLETION_H_
