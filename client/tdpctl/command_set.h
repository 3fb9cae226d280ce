// The commands of tdpctl.
//
// Parsing a command line selects an action; the action runs afterwards, outside
// of CLI11 and its exceptions.
//
// Thread safety: one thread.

#ifndef CLIENT_TDPCTL_COMMAND_SET_H_
#define CLIENT_TDPCTL_COMMAND_SET_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/tdpctl/command_doc.h"
#include "client/tdpctl/parameters.h"
#include "client/tdpctl/session.h"

namespace tdp::client {

// Runs a command. An error is one of the daemon, or of reaching it.
using Action = std::function<absl::Status(Session&)>;

// Whether a command works on several daemons at a time.
enum class Reach { kOneDaemon, kFleet };

// A command while its parameters are declared. `args` lives as long as the
// action.
template <typename Args>
struct Command {
  Parameters parameters;
  std::shared_ptr<Args> args;
};

class CommandSet {
 public:
  // Names of commands: the top level, or what stands below "vm" and its like.
  class Group {
   public:
    explicit Group(CLI::App* app) : app_(app) {}

   private:
    friend class CommandSet;
    CLI::App* app_;
  };

  explicit CommandSet(CLI::App& root) : root_(root) {}

  Group root() { return Group(&root_); }
  Group AddGroup(const std::string& name, const std::string& description);
  Group AddGroup(Group parent, const std::string& name,
                 const std::string& description);

  template <typename Args>
  Command<Args> Add(Group group, const std::string& name,
                    const std::string& description,
                    absl::Status (*run)(Session&, const Args&),
                    Reach reach = Reach::kOneDaemon) {
    auto args = std::make_shared<Args>();
    const Parameters parameters = AddAction(
        group, name, description,
        [args, run](Session& session) { return run(session, *args); }, reach);
    return {parameters, args};
  }

  // The action of the command line that was parsed.
  const Action& selected() const { return selected_; }
  Reach selected_reach() const { return selected_reach_; }

  CommandDoc Describe() const { return DescribeCommands(root_); }
  // Lets --help of each command end with its examples.
  void ShowExamples();

 private:
  Parameters AddAction(Group group, const std::string& name,
                       const std::string& description, Action action,
                       Reach reach);

  CLI::App& root_;
  Action selected_;
  Reach selected_reach_ = Reach::kOneDaemon;
};

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_COMMAND_SET_H_
