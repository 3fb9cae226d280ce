// The parameters of a command: options ("--write") and positional arguments
// ("RANGE").
//
// Each text is checked while the command line is parsed, so that a bad one is a
// usage error before any call is made. CLI11 does the work and stays behind
// this header, which keeps commands quick to compile.
//
// Thread safety: one thread.

#ifndef CLIENT_TDPCTL_PARAMETERS_H_
#define CLIENT_TDPCTL_PARAMETERS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tdp::client {

enum class Presence { kOptional, kRequired };

struct Parameter {
  // "--size", "-o,--output", or "RANGE" for a positional argument.
  std::string name;
  std::string description;
  Presence presence = Presence::kOptional;
  // What --help shows as the default.
  std::string shown_default;
  // What --help shows as the kind of value.
  std::string shown_type;
  // An option that must be given too.
  std::string needs;
  // May be given several times.
  bool repeated = false;
};

template <typename T>
using Parser = absl::StatusOr<T> (*)(absl::string_view);

// The words that stand for the values of an option, in either case.
template <typename T>
using Choices = std::vector<std::pair<std::string, T>>;

class Parameters {
 public:
  // Takes a text, or says what is wrong with it.
  using Setter = std::function<absl::Status(const std::string&)>;

  explicit Parameters(CLI::App* app) : app_(app) {}

  void AddChecked(const Parameter& parameter, Setter set);
  void AddText(const Parameter& parameter,
               std::function<void(const std::string&)> set);
  // An option without a value.
  void AddFlag(const Parameter& parameter, std::function<void()> set);

  template <typename T, typename Set>
  void Add(const Parameter& parameter, Parser<T> parse, Set set) {
    AddChecked(parameter, [parse, set](const std::string& text) {
      const absl::StatusOr<T> value = parse(text);
      if (value.ok()) set(*value);
      return value.status();
    });
  }

  template <typename T, typename Set>
  void AddChoice(Parameter parameter, const Choices<T>& choices, Set set) {
    std::string words;
    for (const auto& [word, value] : choices) {
      absl::StrAppend(&words, words.empty() ? "" : "|", word);
    }
    parameter.shown_type = words;
    AddChecked(parameter, [choices, words, set](const std::string& text) {
      for (const auto& [word, value] : choices) {
        if (!absl::EqualsIgnoreCase(word, text)) continue;
        set(value);
        return absl::OkStatus();
      }
      return absl::InvalidArgumentError(
          absl::StrCat("\"", text, "\" is none of ", words));
    });
  }

  // The name of the VM, first argument of most commands; `set` gets "vms/...".
  void AddVm(std::function<void(const std::string&)> set);

  // Parameters of which exactly one (kRequired) or at most one may be given.
  Parameters AddAlternatives(const std::string& title, Presence presence);

 private:
  CLI::App* app_;
};

// Decimal numbers; T is int32_t, int64_t or uint64_t.
template <typename T>
absl::StatusOr<T> ParseInteger(absl::string_view text);
// A decimal number above 0: how often, how many.
absl::StatusOr<int64_t> ParseCount(absl::string_view text);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_PARAMETERS_H_
