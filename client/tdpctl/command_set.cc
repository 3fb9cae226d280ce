#include "client/tdpctl/command_set.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"

namespace tdp::client {
namespace {

void ShowExamplesOf(CLI::App& app, const CommandDoc& doc) {
  for (const CommandDoc& command : doc.commands) {
    ShowExamplesOf(*app.get_subcommand(command.name), command);
  }
  if (doc.examples.empty()) return;
  app.footer(absl::StrCat(ExamplesText(doc.examples), "\n", kUsageNotes));
}

}  // namespace

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
                                 const std::string& description, Action action,
                                 Reach reach) {
  CLI::App* app = group.app_->add_subcommand(name, description);
  app->callback([this, action, reach] {
    selected_ = action;
    selected_reach_ = reach;
  });
  return Parameters(app);
}

void CommandSet::ShowExamples() { ShowExamplesOf(root_, Describe()); }

}  // namespace tdp::client
