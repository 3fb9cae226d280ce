#include "server/convert/batch_convert.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"

namespace tdp::server {
namespace {

using Kind = BatchOperation::Kind;

// An operation with what every kind has. `path` is that of its message.
template <typename Request>
absl::StatusOr<BatchOperation> Begin(Kind kind, const std::string& path,
                                     const Request& request) {
  BatchOperation operation;
  operation.kind = kind;
  TDP_ASSIGN_OR_RETURN(operation.range,
                       RangeFrom(absl::StrCat(path, ".range"),
                                 request.has_range(), request.range()));
  return operation;
}

absl::StatusOr<BatchOperation> ProtectFrom(
    const std::string& path, const v1::ProtectRangeRequest& request) {
  TDP_ASSIGN_OR_RETURN(BatchOperation operation,
                       Begin(Kind::kProtect, path, request));
  TDP_ASSIGN_OR_RETURN(operation.access,
                       AccessFrom(absl::StrCat(path, ".access"),
                                  request.has_access(), request.access()));
  return operation;
}

absl::StatusOr<BatchOperation> WriteProtectFrom(
    const std::string& path, const v1::WriteProtectRangeRequest& request) {
  TDP_ASSIGN_OR_RETURN(BatchOperation operation,
                       Begin(Kind::kWriteProtect, path, request));
  TDP_ASSIGN_OR_RETURN(
      operation.level,
      LevelNumberFrom(absl::StrCat(path, ".min_level"), request.min_level()));
  return operation;
}

absl::StatusOr<BatchOperation> MapFrom(const std::string& path,
                                       const v1::MapRangeRequest& request) {
  TDP_ASSIGN_OR_RETURN(BatchOperation operation,
                       Begin(Kind::kMap, path, request));
  TDP_ASSIGN_OR_RETURN(
      operation.level,
      SmallLevelFrom(absl::StrCat(path, ".max_level"), request.max_level()));
  operation.write = request.write();
  return operation;
}

absl::StatusOr<BatchOperation> OperationFrom(
    const std::string& path, const v1::MmuOperation& operation) {
  switch (operation.operation_case()) {
    case v1::MmuOperation::kZap:
      return Begin(Kind::kZap, absl::StrCat(path, ".zap"), operation.zap());
    case v1::MmuOperation::kProtect:
      return ProtectFrom(absl::StrCat(path, ".protect"), operation.protect());
    case v1::MmuOperation::kWriteProtect:
      return WriteProtectFrom(absl::StrCat(path, ".write_protect"),
                              operation.write_protect());
    case v1::MmuOperation::kMap:
      return MapFrom(absl::StrCat(path, ".map"), operation.map());
    case v1::MmuOperation::OPERATION_NOT_SET:
      break;
  }
  return FieldError(path, "", "zap, protect, write_protect or map");
}

}  // namespace

absl::StatusOr<std::vector<BatchOperation>> BatchFrom(
    const v1::ApplyBatchRequest& request) {
  if (request.operations_size() > limits::kMaxBatchOperations) {
    return FieldError(
        "operations", absl::StrCat(request.operations_size(), " operations"),
        absl::StrCat("1 to ", limits::kMaxBatchOperations, " operations"));
  }
  std::vector<BatchOperation> operations;
  operations.reserve(request.operations_size());
  for (const v1::MmuOperation& operation : request.operations()) {
    TDP_ASSIGN_OR_RETURN(
        const BatchOperation converted,
        OperationFrom(absl::StrCat("operations[", operations.size(), "]"),
                      operation));
    operations.push_back(converted);
  }
  return operations;
}

}  // namespace tdp::server
