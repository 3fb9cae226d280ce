#include "server/base/command_line.h"

#include <map>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/errors.h"

namespace tdp::server {
namespace {

constexpr size_t kHelpColumns = 80;
constexpr absl::string_view kIndent = "      ";

absl::Status UsageError(absl::string_view argument, absl::string_view why) {
  return MakeError(ErrorReason::kFieldInvalid, absl::StrCat(argument, " ", why),
                   {{"argument", std::string(argument)}});
}

absl::CommandLineFlag* FindFlag(absl::string_view file,
                                absl::string_view name) {
  absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
  if (flag == nullptr || !absl::EndsWith(flag->Filename(), file)) {
    return nullptr;
  }
  return flag;
}

absl::Status SetFlag(absl::CommandLineFlag& flag, absl::string_view value) {
  std::string why;
  if (flag.ParseFrom(value, &why)) return absl::OkStatus();
  return UsageError(
      absl::StrCat("--", flag.Name(), "=", value),
      absl::StrCat("is no value of that flag", why.empty() ? "" : ": ", why));
}

// `text` in lines that fit, each indented.
std::string Wrapped(absl::string_view text) {
  std::string result;
  std::string line;
  for (absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
    if (!line.empty() &&
        kIndent.size() + line.size() + 1 + word.size() > kHelpColumns) {
      absl::StrAppend(&result, kIndent, line, "\n");
      line.clear();
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
  }
  absl::StrAppend(&result, kIndent, line, "\n");
  return result;
}

}  // namespace

absl::StatusOr<CommandLineAction> ParseCommandLine(absl::string_view file,
                                                   int argc,
                                                   const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    absl::string_view name = argument;
    if (!absl::ConsumePrefix(&name, "-") || name.empty()) {
      return UsageError(argument, "is not a flag; see --help");
    }
    absl::ConsumePrefix(&name, "-");
    if (name == "help" || name == "h") return CommandLineAction::kShowHelp;
    if (name == "version") return CommandLineAction::kShowVersion;

    const size_t equals = name.find('=');
    if (equals != absl::string_view::npos) {
      const absl::string_view value = name.substr(equals + 1);
      absl::CommandLineFlag* flag = FindFlag(file, name.substr(0, equals));
      if (flag == nullptr)
        return UsageError(argument, "is unknown; see --help");
      const absl::Status set = SetFlag(*flag, value);
      if (!set.ok()) return set;
      continue;
    }
    absl::CommandLineFlag* flag = FindFlag(file, name);
    absl::string_view value = "true";
    if (flag == nullptr && absl::ConsumePrefix(&name, "no")) {
      flag = FindFlag(file, name);
      if (flag != nullptr && !flag->IsOfType<bool>()) flag = nullptr;
      value = "false";
    }
    if (flag == nullptr) return UsageError(argument, "is unknown; see --help");
    if (!flag->IsOfType<bool>()) {
      if (i + 1 == argc) return UsageError(argument, "needs a value");
      value = argv[++i];
    }
    const absl::Status set = SetFlag(*flag, value);
    if (!set.ok()) return set;
  }
  return CommandLineAction::kRun;
}

std::string DescribeFlags(absl::string_view file) {
  std::map<absl::string_view, absl::CommandLineFlag*> flags;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (absl::EndsWith(flag->Filename(), file)) flags.emplace(name, flag);
  }
  std::string text;
  for (const auto& [name, flag] : flags) {
    const std::string value = flag->DefaultValue();
    absl::StrAppend(
        &text, "  --", name,
        value.empty() ? "" : absl::StrCat(" (default: ", value, ")"), "\n",
        Wrapped(flag->Help()));
  }
  return text;
}

}  // namespace tdp::server
