#include "client/lib/page_level.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tdp::client {
namespace {

struct LevelWord {
  v1::PageLevel level;
  const char* word;
};

constexpr LevelWord kLevels[] = {{v1::PAGE_LEVEL_4K, "4K"},
                                 {v1::PAGE_LEVEL_2M, "2M"},
                                 {v1::PAGE_LEVEL_1G, "1G"},
                                 {v1::PAGE_LEVEL_512G, "512G"},
                                 {v1::PAGE_LEVEL_256T, "256T"}};

}  // namespace

std::string LevelText(v1::PageLevel level) {
  for (const LevelWord& known : kLevels) {
    if (known.level == level) return known.word;
  }
  return absl::StrCat("level ", static_cast<int>(level));
}

std::vector<std::pair<std::string, v1::PageLevel>> LevelChoices(
    v1::PageLevel min, v1::PageLevel max) {
  std::vector<std::pair<std::string, v1::PageLevel>> choices;
  for (const LevelWord& known : kLevels) {
    if (known.level < min || known.level > max) continue;
    choices.emplace_back(known.word, known.level);
  }
  return choices;
}

std::string LevelWords(v1::PageLevel min, v1::PageLevel max) {
  std::string words;
  for (const auto& [word, level] : LevelChoices(min, max)) {
    absl::StrAppend(&words, words.empty() ? "" : "|", word);
  }
  return words;
}

absl::StatusOr<v1::PageLevel> ParseLevel(absl::string_view text,
                                         v1::PageLevel min, v1::PageLevel max) {
  for (const auto& [word, level] : LevelChoices(min, max)) {
    if (absl::EqualsIgnoreCase(word, text)) return level;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is none of ", LevelWords(min, max)));
}

}  // namespace tdp::client
