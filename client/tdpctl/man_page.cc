#include "client/tdpctl/man_page.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace tdp::client {
namespace {

// Text as roff takes it: a line that begins with a dot or a quote is a request.
std::string Escaped(absl::string_view text) {
  std::string result = absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
  if (absl::StartsWith(result, ".") || absl::StartsWith(result, "'")) {
    result.insert(0, "\\&");
  }
  return result;
}

std::string Bold(absl::string_view text) {
  return absl::StrCat("\\fB", Escaped(text), "\\fR");
}

std::string Italic(absl::string_view text) {
  return absl::StrCat("\\fI", Escaped(text), "\\fR");
}

void AddOption(const OptionDoc& option, std::string* page) {
  std::string value;
  if (!option.value.empty()) value = absl::StrCat("=", Italic(option.value));
  absl::StrAppend(page, ".TP\n",
                  absl::StrJoin(option.names, ", ",
                                [&](std::string* out, const std::string& name) {
                                  absl::StrAppend(out, Bold(name), value);
                                }),
                  "\n", Escaped(option.description));
  if (!option.shown_default.empty()) {
    absl::StrAppend(page, " (default: ", Escaped(option.shown_default), ")");
  }
  absl::StrAppend(page, "\n");
}

bool IsHelp(const OptionDoc& option) { return option.names.back() == "--help"; }

void AddCommand(const CommandDoc& command, std::string* page) {
  for (const CommandDoc& child : command.commands) AddCommand(child, page);
  if (!command.commands.empty()) return;
  absl::StrAppend(page, ".SS ", Escaped(absl::StrCat("tdpctl ", command.path)));
  for (const ArgumentDoc& argument : command.arguments) {
    absl::StrAppend(page, " ", argument.required ? "" : "[", argument.name,
                    argument.required ? "" : "]");
  }
  absl::StrAppend(page, "\n", Escaped(command.description), ".\n");
  for (const ArgumentDoc& argument : command.arguments) {
    absl::StrAppend(page, ".TP\n", Italic(argument.name), "\n",
                    Escaped(argument.description), "\n");
  }
  for (const OptionDoc& option : command.options) {
    if (!IsHelp(option)) AddOption(option, page);
  }
  if (command.examples.empty()) return;
  absl::StrAppend(page, ".PP\n.nf\n");
  for (const Example& example : command.examples) {
    absl::StrAppend(page, "  ",
                    Escaped(absl::StrCat("tdpctl ", example.command, " ",
                                         example.arguments)),
                    "\n      ", Escaped(example.meaning), "\n");
  }
  absl::StrAppend(page, ".fi\n");
}

}  // namespace

std::string ManPage(const CommandDoc& root, absl::string_view notes) {
  std::string page = absl::StrCat(
      ".TH TDPCTL 1 \"\" tdpd \"User commands\"\n"
      ".SH NAME\ntdpctl \\- looks at and controls the virtual machines of "
      "tdpd\n"
      ".SH SYNOPSIS\n.B tdpctl\n[\\fIoptions\\fR] \\fIcommand\\fR "
      "[\\fIarguments\\fR]\n"
      ".SH OPTIONS\n");
  for (const OptionDoc& option : root.options) AddOption(option, &page);
  absl::StrAppend(&page, ".SH COMMANDS\n");
  for (const CommandDoc& command : root.commands) AddCommand(command, &page);
  absl::StrAppend(&page, ".SH NOTES\n.nf\n");
  for (const absl::string_view line : absl::StrSplit(notes, '\n')) {
    absl::StrAppend(&page, Escaped(line), "\n");
  }
  absl::StrAppend(&page,
                  ".fi\n.SH ENVIRONMENT\n.TP\n.B TDPD_TARGET\n"
                  "Where the daemon listens, unless \\-\\-target is given.\n");
  return page;
}

}  // namespace tdp::client
