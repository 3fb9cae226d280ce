#include "server/services/guest_memory_service.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"
#include "server/convert/text.h"
#include "server/services/find_vm.h"
#include "server/services/stream_progress.h"
#include "server/services/work_budget.h"
#include "server/services/work_meter.h"

namespace tdp::server {
namespace {

// Refuses [gpa, gpa + size) if it runs past the end of the address space.
absl::Status CheckSpan(absl::string_view size_field, uint64_t gpa,
                       uint64_t size) {
  if (size - 1 <= std::numeric_limits<uint64_t>::max() - gpa) {
    return absl::OkStatus();
  }
  return FieldError(size_field, absl::StrCat(size),
                    absl::StrCat("small enough that the range from ", Hex(gpa),
                                 " ends below 2^64"));
}

// Frames that so many bytes are charged as.
int64_t FramesOf(uint64_t bytes) {
  return static_cast<int64_t>((bytes + kPageSize - 1) / kPageSize);
}

class ReadSource final : public StreamSource<v1::ReadGuestMemoryResponse> {
 public:
  ReadSource(std::shared_ptr<Vm> vm, Gpa gpa, uint64_t size)
      : vm_(std::move(vm)), gpa_(gpa), bytes_left_(size) {}

  absl::StatusOr<StreamStep> Next(
      CallContext& context, v1::ReadGuestMemoryResponse* message) override {
    if (bytes_left_ == 0) return StreamStep::End();
    // Chunks end at multiples of the chunk size, so that later ones are
    // aligned however the first begins.
    const uint64_t chunk = limits::kReadChunkBytes;
    const uint64_t size = std::min(bytes_left_, chunk - gpa_.value() % chunk);
    TDP_ASSIGN_OR_RETURN(std::string data, vm_->ReadMemory(gpa_, size));
    if (data.size() != size) {
      return InternalError("the engine read less than it was asked for");
    }
    context.AddWork(FramesOf(size));
    message->set_gpa(gpa_.value());
    message->set_data(std::move(data));
    gpa_ += size;
    bytes_left_ -= size;
    return StreamStep::Send();
  }

 private:
  const std::shared_ptr<Vm> vm_;
  Gpa gpa_;
  uint64_t bytes_left_;
};

class WriteSink final : public StreamSink<v1::WriteGuestMemoryRequest,
                                          v1::WriteGuestMemoryResponse> {
 public:
  explicit WriteSink(const VmRegistry& registry) : registry_(registry) {}

  absl::Status Take(CallContext& context,
                    const v1::WriteGuestMemoryRequest& message) override {
    context.AddWork(FramesOf(message.data().size()));
    return WithWritten(TakeOne(message));
  }

  absl::Status End(CallContext&,
                   v1::WriteGuestMemoryResponse* response) override {
    if (vm_ == nullptr) {
      return WithWritten(
          FieldError("vm", "", "set in the first message; there was none"));
    }
    response->set_written_bytes(written_bytes_);
    return absl::OkStatus();
  }

 private:
  absl::Status TakeOne(const v1::WriteGuestMemoryRequest& message) {
    if (vm_ == nullptr) {
      TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", message.vm()));
      vm_ = std::move(vm.vm);
      vm_name_ = message.vm();
    } else if (!message.vm().empty() && message.vm() != vm_name_) {
      return FieldError(
          "vm", Shown(message.vm()),
          absl::StrCat("empty or ", vm_name_, ", as in the first message"));
    }
    if (message.data().empty()) return absl::OkStatus();
    if (message.data().size() >
        static_cast<size_t>(limits::kMaxWriteChunkBytes)) {
      return FieldError(
          "data", absl::StrCat(message.data().size(), " bytes"),
          absl::StrCat("at most ", limits::kMaxWriteChunkBytes, " bytes"));
    }
    TDP_RETURN_IF_ERROR(
        CheckSpan("data", message.gpa(), message.data().size()));
    const absl::Status status =
        vm_->WriteMemory(Gpa(message.gpa()), message.data());
    if (!status.ok()) return status;
    written_bytes_ += static_cast<int64_t>(message.data().size());
    return absl::OkStatus();
  }

  absl::Status WithWritten(const absl::Status& status) const {
    return WithProgress(status, "writtenBytes", written_bytes_,
                        "bytes of the stream are in memory");
  }

  const VmRegistry& registry_;
  std::shared_ptr<Vm> vm_;  // from the first message on
  std::string vm_name_;
  int64_t written_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadGuestMemoryResponse>>>
GuestMemoryHandler::ReadGuestMemory(CallContext&,
                                    const v1::ReadGuestMemoryRequest& request) {
  TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", request.vm()));
  if (request.size_bytes() < 1) {
    return FieldError("size_bytes", absl::StrCat(request.size_bytes()),
                      "1 or more");
  }
  const uint64_t size = static_cast<uint64_t>(request.size_bytes());
  TDP_RETURN_IF_ERROR(CheckSpan("size_bytes", request.gpa(), size));
  TDP_RETURN_IF_ERROR(vm->CheckBacked(Gpa(request.gpa()), size));
  return std::make_unique<ReadSource>(std::move(vm.vm), Gpa(request.gpa()),
                                      size);
}

absl::StatusOr<std::unique_ptr<
    StreamSink<v1::WriteGuestMemoryRequest, v1::WriteGuestMemoryResponse>>>
GuestMemoryHandler::WriteGuestMemory(CallContext&) {
  return std::make_unique<WriteSink>(registry_);
}

absl::Status GuestMemoryHandler::DiscardRange(
    CallContext& context, const v1::DiscardRangeRequest& request,
    v1::DiscardRangeResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(
      const GfnRange range,
      RangeFrom("range", request.has_range(), request.range()));
  WorkMeter meter(context, range);
  TDP_ASSIGN_OR_RETURN(const DiscardResult result,
                       vm->DiscardRange(range, BudgetOf(context)));
  meter.AddChanged(FramesOf(static_cast<uint64_t>(result.freed_bytes)));
  response->set_next_gfn(result.next_gfn.value());
  response->set_freed_bytes(result.freed_bytes);
  return absl::OkStatus();
}

}  // namespace tdp::server
