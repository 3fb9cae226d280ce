#include "server/services/dirty_log_service.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"
#include "server/convert/bitmap_convert.h"
#include "server/convert/common_convert.h"
#include "server/convert/paging.h"
#include "server/convert/resource_names.h"
#include "server/convert/text.h"
#include "server/services/find_vm.h"
#include "server/services/stream_progress.h"
#include "server/services/work_meter.h"

namespace tdp::server {
namespace {

// A memslot's log, as one consumer sees it.
struct ConsumerLog {
  std::shared_ptr<Vm> vm;
  std::string memslot;
  std::string consumer;  // empty for the default
  GfnRange frames;       // of the memslot
};

absl::StatusOr<ConsumerLog> FindLog(const VmRegistry& registry,
                                    absl::string_view memslot,
                                    absl::string_view consumer) {
  ConsumerLog log;
  TDP_ASSIGN_OR_RETURN(const MemslotName slot_name,
                       ParseMemslotName("memslot", memslot));
  log.memslot = slot_name.memslot;
  if (!consumer.empty()) {
    TDP_ASSIGN_OR_RETURN(DirtyConsumerName name,
                         ParseDirtyConsumerName("consumer", consumer));
    if (name.vm != slot_name.vm) {
      return FieldError("consumer", Shown(consumer),
                        absl::StrCat("a consumer of ", MakeVmName(slot_name.vm),
                                     ", the VM of the memslot"));
    }
    log.consumer = std::move(name.consumer);
  }
  TDP_ASSIGN_OR_RETURN(log.vm, registry.FindVm(slot_name.vm));
  TDP_ASSIGN_OR_RETURN(const MemslotInfo info, log.vm->GetMemslot(log.memslot));
  log.frames.start = info.config.base_gfn;
  log.frames.end =
      log.frames.start + static_cast<uint64_t>(info.config.frame_count);
  return log;
}

int64_t CountSetBits(absl::string_view bits) {
  int64_t count = 0;
  uint64_t word = 0;
  while (bits.size() >= sizeof(word)) {
    std::memcpy(&word, bits.data(), sizeof(word));
    count += std::popcount(word);
    bits.remove_prefix(sizeof(word));
  }
  for (const char byte : bits) {
    count += std::popcount(static_cast<unsigned char>(byte));
  }
  return count;
}

// A message may ask for a host call a bit, so it is cleared in pieces that have
// no more than so many runs of bits: some milliseconds of work.
constexpr int kMaxRunsPerPiece = 1024;

// The end, in bytes, of the piece that begins at byte `begin`, a multiple of 8.
size_t EndOfPiece(absl::string_view bits, size_t begin) {
  int runs = 0;
  uint64_t carry = 0;  // the bit before
  size_t at = begin;
  for (; at + sizeof(uint64_t) <= bits.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bits.data() + at, sizeof(word));
    runs += std::popcount(word & ~(word << 1 | carry));
    if (runs > kMaxRunsPerPiece) return at;
    carry = word >> 63;
  }
  return bits.size();
}

FrameBitmap PieceOf(const FrameBitmap& bits, size_t begin, size_t end) {
  const auto first = static_cast<int64_t>(begin) * 8;
  const auto last = std::min(static_cast<int64_t>(end) * 8, bits.frame_count);
  return {bits.first_gfn + begin * 8, last - first,
          bits.bits.substr(begin, end - begin)};
}

class ReadSource final : public StreamSource<v1::ReadDirtyLogResponse> {
 public:
  ReadSource(ConsumerLog log, GfnRange range, bool sparse)
      : log_(std::move(log)), rest_(range), sparse_(sparse) {}

  absl::StatusOr<StreamStep> Next(CallContext& context,
                                  v1::ReadDirtyLogResponse* message) override {
    while (!rest_.empty()) {
      // Thousands of chunks may be left out before there is one to send.
      TDP_RETURN_IF_ERROR(context.CheckAlive());
      TDP_RETURN_IF_ERROR(CheckNotMoved());
      WorkMeter meter(context, rest_);
      TDP_ASSIGN_OR_RETURN(
          FrameBitmap chunk,
          log_.vm->ReadDirtyLog(log_.memslot, log_.consumer, rest_));
      TDP_RETURN_IF_ERROR(CheckNotMoved());
      const Gfn end =
          chunk.first_gfn + static_cast<uint64_t>(chunk.frame_count);
      if (end <= rest_.start) {
        return InternalError("a read of the dirty log made no progress",
                             {{"gfn", Hex(rest_.start.value())}});
      }
      rest_.start = end;
      const int64_t set_count = CountSetBits(chunk.bits);
      meter.AddChanged(set_count);
      if (sparse_ && set_count == 0) continue;
      ToProto(std::move(chunk), message->mutable_dirty());
      message->set_dirty_frame_count(set_count);
      return StreamStep::Send();
    }
    return StreamStep::End();
  }

 private:
  // The chunks of a stream name frames by one place of the memslot.
  absl::Status CheckNotMoved() const {
    TDP_ASSIGN_OR_RETURN(const MemslotInfo info,
                         log_.vm->GetMemslot(log_.memslot));
    if (info.config.base_gfn == log_.frames.start) return absl::OkStatus();
    return MakeError(
        ErrorReason::kOperationConflict,
        absl::StrCat("memslot \"", log_.memslot,
                     "\" was moved while its dirty log was read; read it "
                     "again"),
        {{"memslot", log_.memslot}});
  }

  const ConsumerLog log_;
  GfnRange rest_;  // what was not read yet
  const bool sparse_;
};

class ClearSink final
    : public StreamSink<v1::ClearDirtyLogRequest, v1::ClearDirtyLogResponse> {
 public:
  explicit ClearSink(const VmRegistry& registry) : registry_(registry) {}

  absl::Status Take(CallContext& context,
                    const v1::ClearDirtyLogRequest& message) override {
    return WithCleared(TakeOne(context, message));
  }

  absl::Status End(CallContext&, v1::ClearDirtyLogResponse* response) override {
    if (log_.vm == nullptr) {
      return WithCleared(FieldError(
          "memslot", "", "set in the first message; there was none"));
    }
    response->set_cleared_frame_count(cleared_count_);
    return absl::OkStatus();
  }

 private:
  absl::Status TakeOne(CallContext& context,
                       const v1::ClearDirtyLogRequest& message) {
    if (log_.vm == nullptr) {
      TDP_ASSIGN_OR_RETURN(
          log_, FindLog(registry_, message.memslot(), message.consumer()));
      memslot_name_ = message.memslot();
      consumer_name_ = message.consumer();
    } else {
      TDP_RETURN_IF_ERROR(
          CheckSame("memslot", message.memslot(), memslot_name_));
      TDP_RETURN_IF_ERROR(
          CheckSame("consumer", message.consumer(), consumer_name_));
    }
    TDP_ASSIGN_OR_RETURN(const FrameBitmap bits,
                         BitmapFrom("dirty", message.dirty()));
    for (size_t begin = 0; begin < bits.bits.size();) {
      TDP_RETURN_IF_ERROR(context.CheckAlive());
      const size_t end = EndOfPiece(bits.bits, begin);
      const FrameBitmap piece = PieceOf(bits, begin, end);
      WorkMeter meter(context, {piece.first_gfn,
                                piece.first_gfn +
                                    static_cast<uint64_t>(piece.frame_count)});
      TDP_ASSIGN_OR_RETURN(
          const int64_t cleared,
          log_.vm->ClearDirtyLog(log_.memslot, log_.consumer, piece));
      meter.AddChanged(cleared);
      cleared_count_ += cleared;
      begin = end;
    }
    return absl::OkStatus();
  }

  static absl::Status CheckSame(absl::string_view field, absl::string_view name,
                                absl::string_view first) {
    if (name.empty() || name == first) return absl::OkStatus();
    return FieldError(
        field, Shown(name),
        first.empty()
            ? "empty, as in the first message"
            : absl::StrCat("empty or ", first, ", as in the first message"));
  }

  absl::Status WithCleared(const absl::Status& status) const {
    return WithProgress(status, "clearedFrameCount", cleared_count_,
                        "frames were cleared by the stream");
  }

  const VmRegistry& registry_;
  ConsumerLog log_;  // from the first message on
  std::string memslot_name_;
  std::string consumer_name_;
  int64_t cleared_count_ = 0;
};

}  // namespace

absl::Status DirtyLogHandler::CreateDirtyConsumer(
    CallContext&, const v1::CreateDirtyConsumerRequest& request,
    v1::CreateDirtyConsumerResponse* response) {
  TDP_ASSIGN_OR_RETURN(const std::string vm_id,
                       ParseVmName("parent", request.parent()));
  TDP_RETURN_IF_ERROR(
      CheckId("dirty_consumer_id", request.dirty_consumer_id()));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(vm_id));
  TDP_RETURN_IF_ERROR(vm->CreateDirtyConsumer(request.dirty_consumer_id()));
  response->mutable_dirty_consumer()->set_name(
      MakeDirtyConsumerName(vm_id, request.dirty_consumer_id()));
  return absl::OkStatus();
}

absl::Status DirtyLogHandler::ListDirtyConsumers(
    CallContext&, const v1::ListDirtyConsumersRequest& request,
    v1::ListDirtyConsumersResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "parent", request.parent()));
  TDP_ASSIGN_OR_RETURN(const size_t page_size,
                       ParsePageSize(request.page_size()));
  const std::string list = absl::StrCat(request.parent(), "/dirtyConsumers");
  TDP_ASSIGN_OR_RETURN(const std::optional<std::string> after,
                       ParsePageToken(list, request.page_token()));
  PageBudget page(page_size);
  std::string last;
  for (const std::string& id : vm->ListDirtyConsumers()) {
    if (after.has_value() && id <= *after) continue;
    v1::DirtyConsumer consumer;
    consumer.set_name(MakeDirtyConsumerName(vm.id, id));
    if (!page.Take(consumer.ByteSizeLong())) {
      response->set_next_page_token(MakePageToken(list, last));
      break;
    }
    *response->add_dirty_consumers() = std::move(consumer);
    last = id;
  }
  return absl::OkStatus();
}

absl::Status DirtyLogHandler::DeleteDirtyConsumer(
    CallContext&, const v1::DeleteDirtyConsumerRequest& request,
    v1::DeleteDirtyConsumerResponse*) {
  TDP_ASSIGN_OR_RETURN(const DirtyConsumerName name,
                       ParseDirtyConsumerName("name", request.name()));
  TDP_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, registry_.FindVm(name.vm));
  return vm->DeleteDirtyConsumer(name.consumer);
}

absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadDirtyLogResponse>>>
DirtyLogHandler::ReadDirtyLog(CallContext&,
                              const v1::ReadDirtyLogRequest& request) {
  TDP_ASSIGN_OR_RETURN(ConsumerLog log, FindLog(registry_, request.memslot(),
                                                request.consumer()));
  GfnRange range = log.frames;
  const v1::GfnRange& asked = request.range();
  // Without frames: the whole memslot.
  if (asked.start_gfn() != 0 || asked.end_gfn() != 0) {
    TDP_ASSIGN_OR_RETURN(range, RangeFrom("range", true, asked));
    // A range beside the memslot is the engine's to refuse.
    if (range.Overlaps(log.frames)) range = range.Intersect(log.frames);
  }
  return std::make_unique<ReadSource>(std::move(log), range, request.sparse());
}

absl::StatusOr<std::unique_ptr<
    StreamSink<v1::ClearDirtyLogRequest, v1::ClearDirtyLogResponse>>>
DirtyLogHandler::ClearDirtyLog(CallContext&) {
  return std::make_unique<ClearSink>(registry_);
}

}  // namespace tdp::server
