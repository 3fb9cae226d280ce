// CommandDoc: tdpctl's commands as plain data, for help, the man page and
// completion.
//
// Thread safety: values; free functions.

#ifndef CLIENT_TDPCTL_COMMAND_DOC_H_
#define CLIENT_TDPCTL_COMMAND_DOC_H_

#include <string>
#include <vector>

#include "client/tdpctl/examples.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tdp::client {

// What holds for every command.
inline constexpr char kUsageNotes[] =
    "Addresses and sizes: 4096, 0x1000, 4K, 256M, 1G, 1T.\n"
    "Ranges: START..END (END not included) or START+SIZE, 4K aligned;\n"
    "gfn:START..END counts in frames.\n"
    "Exit codes: 0, 1 for an error from the daemon, 2 for usage.";

struct OptionDoc {
  std::vector<std::string> names;  // "-o", "--output"
  std::string value;               // "TEXT", "4K|2M"; empty for a flag
  std::string description;
  std::string shown_default;

  // The words that it takes, if they are few.
  std::vector<std::string> Choices() const;
};

struct ArgumentDoc {
  std::string name;
  std::string description;
  bool required = false;
};

struct CommandDoc {
  std::string name;  // last word: "create"
  std::string path;  // "vm create"; empty for tdpctl itself
  std::string description;
  std::vector<OptionDoc> options;
  std::vector<ArgumentDoc> arguments;
  std::vector<Example> examples;
  std::vector<CommandDoc> commands;

  // Null if there is none.
  const CommandDoc* Find(const std::string& word) const;
};

CommandDoc DescribeCommands(const CLI::App& app);
// "Examples:" and the lines below it; empty without examples.
std::string ExamplesText(const std::vector<Example>& examples);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_COMMAND_DOC_H_
