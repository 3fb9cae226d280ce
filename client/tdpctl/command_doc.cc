#include "client/tdpctl/command_doc.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tdp::client {
namespace {

void AddOption(const CLI::Option& option, CommandDoc& doc) {
  if (option.get_positional()) {
    doc.arguments.push_back({.name = option.get_name(),
                             .description = option.get_description(),
                             .required = option.get_required()});
    return;
  }
  OptionDoc result;
  for (const std::string& name : option.get_snames()) {
    result.names.push_back(absl::StrCat("-", name));
  }
  for (const std::string& name : option.get_lnames()) {
    result.names.push_back(absl::StrCat("--", name));
  }
  if (option.get_items_expected_max() > 0)
    result.value = option.get_type_name();
  result.description = option.get_description();
  result.shown_default = option.get_default_str();
  doc.options.push_back(std::move(result));
}

// Adds what stands in `app` or in an option group of it.
void AddContents(const CLI::App& app, CommandDoc& doc);

CommandDoc Describe(const CLI::App& app, const std::string& path) {
  CommandDoc doc = {.name = app.get_name(),
                    .path = path,
                    .description = app.get_description()};
  for (const Example& example : AllExamples()) {
    if (example.command == path) doc.examples.push_back(example);
  }
  AddContents(app, doc);
  return doc;
}

void AddContents(const CLI::App& app, CommandDoc& doc) {
  for (const CLI::Option* option : app.get_options()) AddOption(*option, doc);
  for (const CLI::App* child :
       app.get_subcommands([](const CLI::App*) { return true; })) {
    if (child->get_name().empty()) {
      AddContents(*child, doc);
      continue;
    }
    doc.commands.push_back(
        Describe(*child, doc.path.empty()
                             ? child->get_name()
                             : absl::StrCat(doc.path, " ", child->get_name())));
  }
}

}  // namespace

std::vector<std::string> OptionDoc::Choices() const {
  if (!absl::StrContains(value, "|")) return {};
  return absl::StrSplit(value, '|');
}

const CommandDoc* CommandDoc::Find(const std::string& word) const {
  for (const CommandDoc& command : commands) {
    if (command.name == word) return &command;
  }
  return nullptr;
}

CommandDoc DescribeCommands(const CLI::App& app) { return Describe(app, ""); }

std::string ExamplesText(const std::vector<Example>& examples) {
  if (examples.empty()) return "";
  std::string text = "Examples:\n";
  for (const Example& example : examples) {
    absl::StrAppend(&text, "  tdpctl ", example.command,
                    example.arguments.empty() ? "" : " ", example.arguments,
                    "\n      ", example.meaning, "\n");
  }
  return text;
}

}  // namespace tdp::client
