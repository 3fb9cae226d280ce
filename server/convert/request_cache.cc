#include "server/convert/request_cache.h"

#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/base/status_macros.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

constexpr absl::Duration kRememberedFor = absl::Minutes(10);

// xxxxxxxx-xxxx-4xxx-[89ab]xxx-xxxxxxxxxxxx
bool IsUuid4(absl::string_view id) {
  if (id.size() != 36) return false;
  for (size_t i = 0; i < id.size(); ++i) {
    const char c = absl::ascii_tolower(static_cast<unsigned char>(id[i]));
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return false;
    } else if (i == 14) {
      if (c != '4') return false;
    } else if (i == 19) {
      if (c != '8' && c != '9' && c != 'a' && c != 'b') return false;
    } else if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return false;
    }
  }
  return true;
}

// The type name tells methods apart; maps are written in a fixed order. A hash
// is enough to catch a client's mistake, and bounds what is remembered.
std::string Fingerprint(const google::protobuf::Message& request) {
  std::string text;
  google::protobuf::io::StringOutputStream sink(&text);
  google::protobuf::io::CodedOutputStream coded(&sink);
  coded.SetSerializationDeterministic(true);
  request.SerializeToCodedStream(&coded);
  coded.Trim();
  return absl::StrCat(request.GetTypeName(), " ", text.size(), " ",
                      absl::HashOf(text));
}

}  // namespace

RequestCache::RequestCache(Clock clock) : clock_(std::move(clock)) {}

absl::Status RequestCache::CheckId(absl::string_view request_id) {
  if (request_id.empty() || IsUuid4(request_id)) return absl::OkStatus();
  return FieldError("request_id", Shown(request_id),
                    "empty or a UUID of version 4, e.g. "
                    "6f2a1c9e-0b7d-4e58-9a31-2c4d5e6f7a8b");
}

absl::Status RequestCache::Run(absl::string_view request_id,
                               const google::protobuf::Message& request,
                               google::protobuf::Message* response,
                               absl::FunctionRef<absl::Status()> work) {
  if (request_id.empty()) return work();
  TDP_RETURN_IF_ERROR(CheckId(request_id));
  const std::string id = absl::AsciiStrToLower(request_id);
  std::string fingerprint = Fingerprint(request);
  {
    absl::MutexLock lock(&mutex_);
    DropOld();
    const auto found = entries_.find(id);
    if (found != entries_.end()) {
      const Entry& entry = found->second;
      if (entry.request != fingerprint) {
        return MakeError(
            ErrorReason::kRequestIdReused,
            absl::StrCat("request_id ", id,
                         " was used with other content; use a new UUID for a "
                         "new request"),
            {{"requestId", id}});
      }
      if (!entry.done) {
        return MakeError(
            ErrorReason::kOperationConflict,
            absl::StrCat("a call with request_id ", id,
                         " is in progress; repeat this one in a moment"),
            {{"requestId", id}});
      }
      if (!response->ParseFromString(entry.response)) {
        return InternalError("a remembered response cannot be read");
      }
      return absl::OkStatus();
    }
    entries_[id].request = std::move(fingerprint);
  }

  const absl::Status status = work();
  std::string kept = status.ok() ? response->SerializeAsString() : "";

  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(id);
  if (!status.ok()) {
    entries_.erase(found);
    return status;
  }
  found->second.done = true;
  found->second.response = std::move(kept);
  found->second.done_time = clock_();
  by_age_.push_back(id);
  DropOld();
  return status;
}

void RequestCache::DropOld() {
  const absl::Time oldest = clock_() - kRememberedFor;
  while (!by_age_.empty()) {
    const auto entry = entries_.find(by_age_.front());
    if (by_age_.size() <= static_cast<size_t>(limits::kMaxRequestIds) &&
        entry->second.done_time > oldest) {
      return;
    }
    entries_.erase(entry);
    by_age_.pop_front();
  }
}

}  // namespace tdp::server
