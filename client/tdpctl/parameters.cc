#include "client/tdpctl/parameters.h"

#include <CLI/CLI.hpp>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "client/lib/names.h"

namespace tdp::client {

namespace {

// CLI11 turns this exception into a usage error that begins with the name.
void SetOrThrow(const std::string& name, const Parameters::Setter& set,
                const std::string& text) {
  const absl::Status status = set(text);
  if (!status.ok()) {
    throw CLI::ValidationError(name, std::string(status.message()));
  }
}

CLI::Option* AddOnce(CLI::App* app, const Parameter& parameter,
                     const Parameters::Setter& set) {
  return app->add_option_function<std::string>(
      parameter.name,
      [name = parameter.name, set](const std::string& text) {
        SetOrThrow(name, set, text);
      },
      parameter.description);
}

CLI::Option* AddRepeated(CLI::App* app, const Parameter& parameter,
                         const Parameters::Setter& set) {
  return app
      ->add_option_function<std::vector<std::string>>(
          parameter.name,
          [name = parameter.name, set](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) SetOrThrow(name, set, text);
          },
          parameter.description)
      ->expected(1)
      ->take_all();
}

}  // namespace

void Parameters::AddChecked(const Parameter& parameter, Setter set) {
  CLI::Option* option = parameter.repeated ? AddRepeated(app_, parameter, set)
                                           : AddOnce(app_, parameter, set);
  if (parameter.presence == Presence::kRequired) option->required();
  if (!parameter.shown_default.empty()) {
    option->default_str(parameter.shown_default);
  }
  option->type_name(parameter.name.front() == '-' &&
                            parameter.shown_type.empty()
                        ? "TEXT"
                        : parameter.shown_type);
  if (!parameter.needs.empty()) option->needs(parameter.needs);
}

void Parameters::AddText(const Parameter& parameter,
                         std::function<void(const std::string&)> set) {
  AddChecked(parameter, [set](const std::string& text) {
    set(text);
    return absl::OkStatus();
  });
}

void Parameters::AddFlag(const Parameter& parameter,
                         std::function<void()> set) {
  app_->add_flag_callback(parameter.name, set, parameter.description);
}

void Parameters::AddVm(std::function<void(const std::string&)> set) {
  AddText({.name = "VM",
           .description = "Name of the VM",
           .presence = Presence::kRequired},
          [set](const std::string& text) { set(VmName(text)); });
}

Parameters Parameters::AddAlternatives(const std::string& title,
                                       Presence presence) {
  CLI::Option_group* group = app_->add_option_group(title);
  group->require_option(presence == Presence::kRequired ? 1 : 0, 1);
  return Parameters(group);
}

template <typename T>
absl::StatusOr<T> ParseInteger(absl::string_view text) {
  T value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no whole number, or out of range"));
  }
  return value;
}

template absl::StatusOr<int32_t> ParseInteger(absl::string_view);
template absl::StatusOr<int64_t> ParseInteger(absl::string_view);
template absl::StatusOr<uint64_t> ParseInteger(absl::string_view);

absl::StatusOr<int64_t> ParseCount(absl::string_view text) {
  int64_t count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no number above 0"));
  }
  return count;
}

}  // namespace tdp::client
