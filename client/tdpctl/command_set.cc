#include "client/tdpctl/command_set.h"

#include <CLI/CLI.hpp>

namespace tdp::client {

CommandSet::Group CommandSet::AddGroup(const std::string& name,
                                       const std::string& description) {
  return AddGroup(root(), name, description);
}

CommandSet::Group CommandSet::AddGroup(Group parent, const std::string& name,
                                       const std::string& description) {
  CLI::App* group = parent.app_->add_subcommand(name, description);
  group->require_subcommand(1);
  return Group(group);
}

Parameters CommandSet::AddAction(Group group, const std::string& name,
                                 const std::string& description,
                                 Action action) {
  CLI::App* app = group.app_->add_subcommand(name, description);
  app->callback([this, action] { selected_ = action; });
  return Parameters(app);
}

}  // namespace tdp::client
