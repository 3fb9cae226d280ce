#include "client/tdpctl/completion.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tdp::client {
namespace {

constexpr char kBash[] = R"(# bash completion of tdpctl
_tdpctl() {
  local IFS=$'\n'
  COMPREPLY=($(tdpctl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace
  fi
}
complete -o default -F _tdpctl tdpctl
)";

constexpr char kZsh[] = R"(#compdef tdpctl
_tdpctl() {
  local -a candidates
  candidates=("${(@f)$(tdpctl __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "${candidates[1]}" ]]; then
    local -a open=(${(M)candidates:#*=}) closed=(${candidates:#*=})
    compadd -S '' -a open
    compadd -a closed
  else
    _files
  fi
}
if [[ "$funcstack[1]" == _tdpctl ]]; then
  _tdpctl "$@"
else
  compdef _tdpctl tdpctl
fi
)";

constexpr char kFish[] = R"(# fish completion of tdpctl
function __tdpctl_complete
  set -l words (commandline -opc)
  tdpctl __complete $words[2..] (commandline -ct) 2>/dev/null
end
complete -c tdpctl -f -a '(__tdpctl_complete)'
)";

const OptionDoc* FindOption(const CommandDoc& command,
                            const std::string& name) {
  for (const OptionDoc& option : command.options) {
    if (std::find(option.names.begin(), option.names.end(), name) !=
        option.names.end()) {
      return &option;
    }
  }
  return nullptr;
}

void Keep(const std::string& candidate, const std::string& prefix,
          std::vector<std::string>& candidates) {
  if (absl::StartsWith(candidate, prefix)) candidates.push_back(candidate);
}

// Whether bash made a word of its own of what stands between two others.
bool IsSeparator(const std::string& word) {
  return !word.empty() && word.find_first_not_of(":=") == std::string::npos;
}

// Puts together what bash split. Returns how much of the last word stands
// before its last part, which alone a candidate of bash's replaces.
size_t JoinSplitWords(std::vector<std::string>& words) {
  std::vector<std::string> joined;
  size_t before_last_part = 0;
  bool after_separator = false;
  for (std::string& word : words) {
    const bool separator = IsSeparator(word) && !joined.empty();
    if (separator || after_separator) {
      before_last_part = joined.back().size() + (separator ? word.size() : 0);
      joined.back() += word;
    } else {
      before_last_part = 0;
      joined.push_back(std::move(word));
    }
    after_separator = separator;
  }
  words = std::move(joined);
  return before_last_part;
}

// How far a command line has come.
struct Place {
  const CommandDoc* command;
  // An option whose value comes next.
  const OptionDoc* option = nullptr;
  std::vector<std::string> arguments;
};

const OptionDoc* FindOption(const CommandDoc& root, const CommandDoc& command,
                            const std::string& name) {
  const OptionDoc* option = FindOption(command, name);
  return option != nullptr ? option : FindOption(root, name);
}

Place FollowWords(const CommandDoc& root,
                  const std::vector<std::string>& words) {
  Place place = {.command = &root};
  for (const std::string& word : words) {
    if (place.option != nullptr) {
      place.option = nullptr;
    } else if (absl::StartsWith(word, "-")) {
      const OptionDoc* option = FindOption(root, *place.command, word);
      if (option != nullptr && !option->value.empty()) place.option = option;
    } else if (const CommandDoc* next = place.command->Find(word)) {
      place.command = next;
    } else {
      place.arguments.push_back(word);
    }
  }
  return place;
}

void AddOptions(const CommandDoc& command, const std::string& prefix,
                std::vector<std::string>& candidates) {
  for (const OptionDoc& option : command.options) {
    const std::string& name = option.names.back();
    Keep(option.value.empty() ? name : absl::StrCat(name, "="), prefix,
         candidates);
  }
}

// The whole words that may stand in the place of `current`.
std::vector<std::string> Candidates(const CommandDoc& root, const Place& place,
                                    const std::string& current,
                                    const ListValues& list_values) {
  std::vector<std::string> candidates;
  if (place.option != nullptr) {
    for (const std::string& choice : place.option->Choices()) {
      Keep(choice, current, candidates);
    }
    return candidates;
  }
  const size_t equals = current.find('=');
  if (absl::StartsWith(current, "-") && equals != std::string::npos) {
    const std::string name = current.substr(0, equals);
    const OptionDoc* option = FindOption(root, *place.command, name);
    if (option == nullptr) return {};
    for (const std::string& choice : option->Choices()) {
      Keep(absl::StrCat(name, "=", choice), current, candidates);
    }
    return candidates;
  }
  if (absl::StartsWith(current, "-")) {
    AddOptions(*place.command, current, candidates);
    if (place.command != &root) AddOptions(root, current, candidates);
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()),
                     candidates.end());
    return candidates;
  }
  for (const CommandDoc& command : place.command->commands) {
    Keep(command.name, current, candidates);
  }
  const size_t index = place.arguments.size();
  if (index < place.command->arguments.size()) {
    for (const std::string& value :
         list_values(place.command->arguments[index].name, place.arguments)) {
      Keep(value, current, candidates);
    }
  }
  return candidates;
}

}  // namespace

std::vector<std::string> JoinedWords(std::vector<std::string> words) {
  JoinSplitWords(words);
  return words;
}

std::vector<std::string> Complete(const CommandDoc& root,
                                  std::vector<std::string> words,
                                  const ListValues& list_values) {
  const size_t before_last_part = JoinSplitWords(words);
  if (words.empty()) words.emplace_back();
  const std::string current = std::move(words.back());
  words.pop_back();
  std::vector<std::string> candidates =
      Candidates(root, FollowWords(root, words), current, list_values);
  for (std::string& candidate : candidates) {
    candidate.erase(0, before_last_part);
  }
  return candidates;
}

const char* CompletionScript(const std::string& shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  if (shell == "fish") return kFish;
  return nullptr;
}

}  // namespace tdp::client
