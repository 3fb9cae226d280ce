#include "server/convert/resource_names.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

constexpr size_t kMaxIdBytes = 63;
constexpr absl::string_view kIdRule =
    "1 to 63 of the characters a-z, 0-9 and -, beginning with a letter and "
    "ending with a letter or a digit";

bool IsLower(char c) { return 'a' <= c && c <= 'z'; }
bool IsDigit(char c) { return '0' <= c && c <= '9'; }

bool IsId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && IsLower(id.front()) &&
         id.back() != '-' && std::all_of(id.begin(), id.end(), [](char c) {
           return IsLower(c) || IsDigit(c) || c == '-';
         });
}

// Decimal without sign or leading zeros, so that a name has one spelling.
bool ParseIndex(absl::string_view text, int* index) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), IsDigit)) {
    return false;
  }
  if (text.size() > 1 && text.front() == '0') return false;
  return absl::SimpleAtoi(text, index);
}

// The two ids of a name of the form vms/{id}/`collection`/{id}.
std::optional<std::pair<std::string, std::string>> ParseChild(
    absl::string_view name, absl::string_view collection) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 4 || parts[0] != "vms" || !IsId(parts[1]) ||
      parts[2] != collection || !IsId(parts[3])) {
    return std::nullopt;
  }
  return std::make_pair(std::string(parts[1]), std::string(parts[3]));
}

absl::Status NameError(absl::string_view field, absl::string_view name,
                       absl::string_view format) {
  return FieldError(
      field, Shown(name),
      absl::StrCat("of the form ", format, ", with ids of ", kIdRule));
}

}  // namespace

absl::Status CheckId(absl::string_view field, absl::string_view id) {
  if (IsId(id)) return absl::OkStatus();
  return FieldError(field, Shown(id), kIdRule);
}

absl::StatusOr<std::string> ParseVmName(absl::string_view field,
                                        absl::string_view name) {
  // Every walk comes through here: no list of parts is made.
  absl::string_view id = name;
  if (!absl::ConsumePrefix(&id, "vms/") || !IsId(id)) {
    return NameError(field, name, "vms/{vm}");
  }
  return std::string(id);
}

absl::StatusOr<MemslotName> ParseMemslotName(absl::string_view field,
                                             absl::string_view name) {
  auto ids = ParseChild(name, "memslots");
  if (!ids.has_value()) {
    return NameError(field, name, "vms/{vm}/memslots/{memslot}");
  }
  return MemslotName{std::move(ids->first), std::move(ids->second)};
}

absl::StatusOr<DirtyConsumerName> ParseDirtyConsumerName(
    absl::string_view field, absl::string_view name) {
  auto ids = ParseChild(name, "dirtyConsumers");
  if (!ids.has_value()) {
    return NameError(field, name, "vms/{vm}/dirtyConsumers/{consumer}");
  }
  return DirtyConsumerName{std::move(ids->first), std::move(ids->second)};
}

absl::StatusOr<VcpuName> ParseVcpuName(absl::string_view field,
                                       absl::string_view name,
                                       Wildcard wildcard) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  VcpuName result;
  if (parts.size() == 4 && parts[0] == "vms" && IsId(parts[1]) &&
      parts[2] == "vcpus") {
    result.vm = std::string(parts[1]);
    if (ParseIndex(parts[3], &result.index)) return result;
    if (parts[3] == "-" && wildcard == Wildcard::kAllowed) {
      result.index = kEveryVcpu;
      return result;
    }
  }
  return FieldError(
      field, Shown(name),
      wildcard == Wildcard::kAllowed
          ? "of the form vms/{vm}/vcpus/{index}, with a decimal index or \"-\" "
            "for every vCPU"
          : "of the form vms/{vm}/vcpus/{index}, with a decimal index");
}

std::string MakeVmName(absl::string_view vm) {
  return absl::StrCat("vms/", vm);
}

std::string MakeMemslotName(absl::string_view vm, absl::string_view memslot) {
  return absl::StrCat("vms/", vm, "/memslots/", memslot);
}

std::string MakeDirtyConsumerName(absl::string_view vm,
                                  absl::string_view consumer) {
  return absl::StrCat("vms/", vm, "/dirtyConsumers/", consumer);
}

std::string MakeVcpuName(absl::string_view vm, int index) {
  return absl::StrCat("vms/", vm, "/vcpus/", index);
}

}  // namespace tdp::server
