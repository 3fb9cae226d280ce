#include "client/lib/mmu_operation.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/lib/address.h"
#include "client/lib/page_level.h"

namespace tdp::client {
namespace {

// Largest leaves that there are, and that a map installs.
constexpr v1::PageLevel kMaxLeafLevel = v1::PAGE_LEVEL_1G;
constexpr v1::PageLevel kMaxMapLevel = v1::PAGE_LEVEL_2M;

constexpr char kZapForm[] = "zap:RANGE";
constexpr char kProtectForm[] = "protect:RANGE:none|read|read-write";
constexpr char kWriteProtectForm[] = "write-protect:RANGE[:MIN-LEVEL]";
constexpr char kMapForm[] = "map:RANGE[:write][:MAX-LEVEL]";

// An operation that is being read.
struct Words {
  absl::string_view text;  // the whole
  absl::string_view form;  // what it should look like
  std::vector<absl::string_view> options;

  absl::Status Refuse(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" ", what, "; write ", form));
  }
};

// Splits "RANGE:OPTION:OPTION", whose range may begin with "gfn:".
template <typename Request>
absl::Status TakeRange(absl::string_view rest, Words& words, Request* request) {
  size_t from = 0;
  if (absl::StartsWith(rest, "gfn:")) from = 4;
  const size_t colon = rest.find(':', from);
  const absl::string_view text = rest.substr(0, colon);
  if (text.empty()) return words.Refuse("has no range");
  const absl::StatusOr<FrameRange> range = ParseFrameRange(text);
  if (!range.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", words.text, "\": ", range.status().message()));
  }
  request->mutable_range()->set_start_gfn(range->start_gfn);
  request->mutable_range()->set_end_gfn(range->end_gfn);
  if (colon != absl::string_view::npos) {
    words.options = absl::StrSplit(rest.substr(colon + 1), ':');
  }
  return absl::OkStatus();
}

absl::Status ParseZap(absl::string_view rest, Words& words,
                      v1::ZapRangeRequest* request) {
  const absl::Status status = TakeRange(rest, words, request);
  if (!status.ok()) return status;
  if (!words.options.empty()) return words.Refuse("says too much");
  return absl::OkStatus();
}

absl::Status ParseProtect(absl::string_view rest, Words& words,
                          v1::ProtectRangeRequest* request) {
  const absl::Status status = TakeRange(rest, words, request);
  if (!status.ok()) return status;
  if (words.options.empty()) return words.Refuse("names no access");
  if (words.options.size() > 1) return words.Refuse("says too much");
  const absl::StatusOr<v1::Access> access = ParseAccess(words.options[0]);
  if (!access.ok()) return words.Refuse("names no access that there is");
  *request->mutable_access() = *access;
  return absl::OkStatus();
}

absl::Status ParseWriteProtect(absl::string_view rest, Words& words,
                               v1::WriteProtectRangeRequest* request) {
  const absl::Status status = TakeRange(rest, words, request);
  if (!status.ok()) return status;
  if (words.options.size() > 1) return words.Refuse("says too much");
  if (words.options.empty()) return absl::OkStatus();
  const absl::StatusOr<v1::PageLevel> level =
      ParseLevel(words.options[0], v1::PAGE_LEVEL_4K, kMaxLeafLevel);
  if (!level.ok()) {
    return words.Refuse(absl::StrCat(
        "names no level of ", LevelWords(v1::PAGE_LEVEL_4K, kMaxLeafLevel)));
  }
  request->set_min_level(*level);
  return absl::OkStatus();
}

absl::Status ParseMap(absl::string_view rest, Words& words,
                      v1::MapRangeRequest* request) {
  const absl::Status status = TakeRange(rest, words, request);
  if (!status.ok()) return status;
  for (const absl::string_view option : words.options) {
    const bool is_write = option == "write";
    const absl::StatusOr<v1::PageLevel> level =
        ParseLevel(option, v1::PAGE_LEVEL_4K, kMaxMapLevel);
    if (!is_write && !level.ok()) {
      return words.Refuse(
          absl::StrCat("has \"", option, "\", which is none of write|",
                       LevelWords(v1::PAGE_LEVEL_4K, kMaxMapLevel)));
    }
    const bool repeated =
        is_write ? request->write()
                 : request->max_level() != v1::PAGE_LEVEL_UNSPECIFIED;
    if (repeated) {
      return words.Refuse(is_write ? "says write twice" : "names two levels");
    }
    if (is_write) {
      request->set_write(true);
    } else {
      request->set_max_level(*level);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Access> ParseAccess(absl::string_view text) {
  v1::Access access;
  if (text == "none") return access;
  access.set_read(true);
  if (text == "read") return access;
  access.set_write(true);
  if (text == "read-write") return access;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is none of none|read|read-write"));
}

absl::StatusOr<v1::MmuOperation> ParseMmuOperation(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  const auto& [verb, rest] = parts;
  Words words{.text = text};
  v1::MmuOperation operation;
  absl::Status status;
  if (verb == "zap") {
    words.form = kZapForm;
    status = ParseZap(rest, words, operation.mutable_zap());
  } else if (verb == "protect") {
    words.form = kProtectForm;
    status = ParseProtect(rest, words, operation.mutable_protect());
  } else if (verb == "write-protect") {
    words.form = kWriteProtectForm;
    status = ParseWriteProtect(rest, words, operation.mutable_write_protect());
  } else if (verb == "map") {
    words.form = kMapForm;
    status = ParseMap(rest, words, operation.mutable_map());
  } else {
    status = absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no operation; write ", kZapForm, ", ",
                     kProtectForm, ", ", kWriteProtectForm, " or ", kMapForm));
  }
  if (!status.ok()) return status;
  return operation;
}

}  // namespace tdp::client
