#include "engine/base/errors.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tdp {
namespace {

constexpr absl::string_view kPayloadUrl = "tdpd/error-detail";
// The payload is the number of the reason, then each key and value, all as
// fields "LENGTH:BYTES": values may be text of a caller and hold any byte.
void AppendField(absl::string_view field, std::string* payload) {
  absl::StrAppend(payload, field.size(), ":", field);
}

// Takes one field off the front of `payload`; false if there is none.
bool TakeField(absl::string_view* payload, std::string* field) {
  const size_t colon = payload->find(':');
  if (colon == absl::string_view::npos) return false;
  size_t length = 0;
  if (!absl::SimpleAtoi(payload->substr(0, colon), &length)) return false;
  payload->remove_prefix(colon + 1);
  if (length > payload->size()) return false;
  *field = std::string(payload->substr(0, length));
  payload->remove_prefix(length);
  return true;
}

struct ReasonRow {
  ErrorReason reason;
  absl::string_view name;
  absl::StatusCode code;
};

constexpr ReasonRow kReasons[] = {
    {ErrorReason::kResourceNotFound, "RESOURCE_NOT_FOUND",
     absl::StatusCode::kNotFound},
    {ErrorReason::kResourceExists, "RESOURCE_EXISTS",
     absl::StatusCode::kAlreadyExists},
    {ErrorReason::kFieldInvalid, "FIELD_INVALID",
     absl::StatusCode::kInvalidArgument},
    {ErrorReason::kGfnNotBacked, "GFN_NOT_BACKED",
     absl::StatusCode::kOutOfRange},
    {ErrorReason::kMemslotOverlap, "MEMSLOT_OVERLAP",
     absl::StatusCode::kAlreadyExists},
    {ErrorReason::kVmStateConflict, "VM_STATE_CONFLICT",
     absl::StatusCode::kFailedPrecondition},
    {ErrorReason::kDirtyLogOff, "DIRTY_LOG_OFF",
     absl::StatusCode::kFailedPrecondition},
    {ErrorReason::kEtagMismatch, "ETAG_MISMATCH", absl::StatusCode::kAborted},
    {ErrorReason::kOperationConflict, "OPERATION_CONFLICT",
     absl::StatusCode::kAborted},
    {ErrorReason::kPageTableLimit, "PAGE_TABLE_LIMIT",
     absl::StatusCode::kResourceExhausted},
    {ErrorReason::kEventsTruncated, "EVENTS_TRUNCATED",
     absl::StatusCode::kOutOfRange},
    {ErrorReason::kCapabilityMissing, "CAPABILITY_MISSING",
     absl::StatusCode::kFailedPrecondition},
    {ErrorReason::kSnapshotCorrupt, "SNAPSHOT_CORRUPT",
     absl::StatusCode::kDataLoss},
    {ErrorReason::kDraining, "DRAINING", absl::StatusCode::kUnavailable},
    {ErrorReason::kLimitReached, "LIMIT_REACHED",
     absl::StatusCode::kResourceExhausted},
    {ErrorReason::kRoleDenied, "ROLE_DENIED",
     absl::StatusCode::kPermissionDenied},
    {ErrorReason::kUnauthenticated, "UNAUTHENTICATED",
     absl::StatusCode::kUnauthenticated},
    {ErrorReason::kNotImplemented, "NOT_IMPLEMENTED",
     absl::StatusCode::kUnimplemented},
    {ErrorReason::kInternal, "INTERNAL", absl::StatusCode::kInternal},
    {ErrorReason::kDeadlinePassed, "DEADLINE_PASSED",
     absl::StatusCode::kDeadlineExceeded},
    {ErrorReason::kCancelled, "CANCELLED", absl::StatusCode::kCancelled},
    {ErrorReason::kSourceFailed, "SOURCE_FAILED",
     absl::StatusCode::kUnavailable},
    {ErrorReason::kHostMemoryExhausted, "HOST_MEMORY_EXHAUSTED",
     absl::StatusCode::kResourceExhausted},
    {ErrorReason::kStreamTooSlow, "STREAM_TOO_SLOW",
     absl::StatusCode::kResourceExhausted},
    {ErrorReason::kRequestIdReused, "REQUEST_ID_REUSED",
     absl::StatusCode::kAlreadyExists},
    {ErrorReason::kGranuleUnsupported, "GRANULE_UNSUPPORTED",
     absl::StatusCode::kFailedPrecondition},
};

const ReasonRow& RowOf(ErrorReason reason) {
  return kReasons[static_cast<int>(reason) - 1];
}

constexpr bool RowsAreInOrder() {
  int next = 1;
  for (const ReasonRow& row : kReasons) {
    if (static_cast<int>(row.reason) != next++) return false;
  }
  return true;
}
static_assert(RowsAreInOrder(), "RowOf() indexes the table by reason");

}  // namespace

absl::StatusCode CodeOf(ErrorReason reason) { return RowOf(reason).code; }

absl::string_view NameOf(ErrorReason reason) { return RowOf(reason).name; }

absl::Status MakeError(ErrorReason reason, absl::string_view message,
                       ErrorMetadata metadata) {
  std::string payload;
  AppendField(absl::StrCat(static_cast<int>(reason)), &payload);
  for (const auto& [key, value] : metadata) {
    AppendField(key, &payload);
    AppendField(value, &payload);
  }
  absl::Status status(CodeOf(reason), message);
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
  return status;
}

std::optional<ErrorDetail> DetailOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string text(*payload);
  absl::string_view rest = text;
  std::string number;
  int reason = 0;
  if (!TakeField(&rest, &number) || !absl::SimpleAtoi(number, &reason)) {
    return std::nullopt;
  }
  ErrorDetail detail;
  detail.reason = static_cast<ErrorReason>(reason);
  std::string key;
  std::string value;
  while (TakeField(&rest, &key) && TakeField(&rest, &value)) {
    detail.metadata.emplace_back(key, value);
  }
  return detail;
}

std::string Hex(uint64_t value) { return absl::StrFormat("0x%x", value); }

absl::Status NotFoundError(absl::string_view name) {
  return MakeError(ErrorReason::kResourceNotFound,
                   absl::StrCat("\"", name,
                                "\" does not exist; list its parent to see "
                                "what does"),
                   {{"resource", std::string(name)}});
}

absl::Status AlreadyExistsError(absl::string_view name) {
  return MakeError(ErrorReason::kResourceExists,
                   absl::StrCat("\"", name,
                                "\" exists already; choose another id or "
                                "delete it first"),
                   {{"resource", std::string(name)}});
}

absl::Status FieldError(absl::string_view field, absl::string_view value,
                        absl::string_view rule) {
  return MakeError(
      ErrorReason::kFieldInvalid,
      absl::StrCat("field ", field, " is ", value.empty() ? "empty" : value,
                   "; it must be ", rule),
      {{"field", std::string(field)},
       {"value", std::string(value)},
       {"rule", std::string(rule)}});
}

absl::Status GfnNotBackedError(Gfn gfn) {
  return MakeError(ErrorReason::kGfnNotBacked,
                   absl::StrCat("frame ", Hex(gfn.value()),
                                " lies outside every memslot; create a "
                                "memslot that holds it or narrow the range"),
                   {{"gfn", Hex(gfn.value())}});
}

absl::Status NotImplementedError(absl::string_view method) {
  return MakeError(ErrorReason::kNotImplemented,
                   absl::StrCat(method,
                                " is part of the API, but this daemon does "
                                "not serve it yet; see GetInfo for its "
                                "version"),
                   {{"method", std::string(method)}});
}

absl::Status LimitError(absl::string_view limit, int64_t value,
                        absl::string_view way_out, absl::Duration retry_delay) {
  ErrorMetadata metadata = {{"limit", std::string(limit)},
                            {"value", absl::StrCat(value)}};
  if (retry_delay > absl::ZeroDuration()) {
    const absl::Duration delay = absl::Ceil(retry_delay, absl::Milliseconds(1));
    metadata.emplace_back("retryDelayMs",
                          absl::StrCat(absl::ToInt64Milliseconds(delay)));
  }
  return MakeError(
      ErrorReason::kLimitReached,
      absl::StrCat("limit ", limit, " of ", value, " is reached; ", way_out),
      std::move(metadata));
}

absl::Status InternalError(absl::string_view message, ErrorMetadata metadata) {
  return MakeError(ErrorReason::kInternal, message, std::move(metadata));
}

absl::Status HostCallError(absl::string_view call, int error_number) {
  return InternalError(
      absl::StrFormat("%s: %s (errno %d)", call, strerror(error_number),
                      error_number),
      {{"call", std::string(call)}, {"errno", absl::StrCat(error_number)}});
}

absl::Status HostFrameError(WindowCall call, Gfn gfn, int error_number) {
  struct Words {
    const char* action;
    const char* call;
  };
  const Words words = [call]() -> Words {
    switch (call) {
      case WindowCall::kMap:
        return {"map", "ioctl(UFFDIO_CONTINUE)"};
      case WindowCall::kUnmap:
        return {"unmap", "madvise(MADV_DONTNEED)"};
      case WindowCall::kProtect:
        break;
    }
    return {"change the protection of", "ioctl(UFFDIO_WRITEPROTECT)"};
  }();
  const std::string frame = Hex(gfn.value());
  if (error_number != ENOMEM) {
    return HostCallError(absl::StrCat(words.call, " from frame ", frame, " on"),
                         error_number);
  }
  return MakeError(ErrorReason::kHostMemoryExhausted,
                   absl::StrCat("the host has no memory left to ", words.action,
                                " frame ", frame, "; free memory on it"),
                   {{"gfn", frame}});
}

}  // namespace tdp
