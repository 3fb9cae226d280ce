// Client's calls of DirtyLogService.

#include "client/lib/address.h"
#include "client/lib/connection.h"

namespace tdp::client {

absl::StatusOr<v1::CreateDirtyConsumerResponse> Client::CreateDirtyConsumer(
    const v1::CreateDirtyConsumerRequest& request) {
  return connection_->Unary(*connection_->dirty_log,
                            &v1::DirtyLogService::Stub::CreateDirtyConsumer,
                            request);
}

absl::StatusOr<v1::ListDirtyConsumersResponse> Client::ListDirtyConsumers(
    const std::string& vm_name) {
  v1::ListDirtyConsumersRequest request;
  request.set_parent(vm_name);
  return connection_->List(*connection_->dirty_log,
                           &v1::DirtyLogService::Stub::ListDirtyConsumers,
                           request, [](v1::ListDirtyConsumersResponse& page) {
                             return page.mutable_dirty_consumers();
                           });
}

absl::StatusOr<v1::DeleteDirtyConsumerResponse> Client::DeleteDirtyConsumer(
    const v1::DeleteDirtyConsumerRequest& request) {
  return connection_->Unary(*connection_->dirty_log,
                            &v1::DirtyLogService::Stub::DeleteDirtyConsumer,
                            request);
}

absl::Status Client::ReadDirtyLog(
    const v1::ReadDirtyLogRequest& request,
    OnMessage<v1::ReadDirtyLogResponse> on_message) {
  return connection_->Stream(*connection_->dirty_log,
                             &v1::DirtyLogService::Stub::ReadDirtyLog, request,
                             on_message);
}

absl::StatusOr<v1::ClearDirtyLogResponse> Client::ClearDirtyLog(
    const std::string& memslot, const std::string& consumer,
    absl::Span<const v1::Bitmap> dirty, OnBytes on_bytes) {
  size_t sent = 0;
  uint64_t sent_frames = 0;
  return connection_
      ->Upload<v1::DirtyLogService::Stub, v1::ClearDirtyLogRequest>(
          *connection_->dirty_log, &v1::DirtyLogService::Stub::ClearDirtyLog,
          [&](v1::ClearDirtyLogRequest& request) {
            if (sent == dirty.size()) return false;
            request.Clear();
            if (sent == 0) {
              request.set_memslot(memslot);
              request.set_consumer(consumer);
            }
            on_bytes(sent_frames << kFrameShift);
            sent_frames += static_cast<uint64_t>(dirty[sent].frame_count());
            *request.mutable_dirty() = dirty[sent++];
            return true;
          });
}

}  // namespace tdp::client
