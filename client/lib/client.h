// A connection to a daemon: one method for each call of the API.
// client/README.md has a first program.
//
// - Failed calls give an absl::Status as call_error.h describes it: the
//   canonical code, a message for people, an ErrorInfo for programs.
// - Calls that fail for a while are repeated, as retry.h says; what may have
//   taken effect is repeated only if that does no harm. Create calls get a
//   `request_id` if they have none, so that they may be.
// - Lists come whole, pages joined. Ranged methods are called until they reach
//   the end of the range and give one response with the counts summed. After a
//   retry of a piece whose answer was lost, what that answer counted is missing
//   from the sum: the piece was done already, so it is not counted again.
// - Streams of answers that break go on behind the last message: events
//   without a gap, walks without a repetition. Streams that send
//   (StreamOperations, WriteGuestMemory, ClearDirtyLog) are never repeated.
//
// This header knows no gRPC, which keeps its users quick to compile.
//
// Thread safety: any thread; streams call back on the caller's thread.

#ifndef CLIENT_LIB_CLIENT_H_
#define CLIENT_LIB_CLIENT_H_

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/lib/retry.h"
#include "client/lib/target.h"
#include "tdp/v1/dirty_log_service.pb.h"
#include "tdp/v1/event_service.pb.h"
#include "tdp/v1/guest_memory_service.pb.h"
#include "tdp/v1/info_service.pb.h"
#include "tdp/v1/memslot_service.pb.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/stats_service.pb.h"
#include "tdp/v1/vcpu_service.pb.h"
#include "tdp/v1/vm_service.pb.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::client {

inline constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);

// Enough that neither side waits for the other, with some hundred operations in
// a message.
inline constexpr int kDefaultOperationWindow = 4;

// Gets each message of a stream; false ends the stream early, with success.
template <typename Response>
using OnMessage = absl::FunctionRef<bool(const Response&)>;

// Gets the frame that a ranged call reached, after each piece of its range.
using OnFrame = absl::FunctionRef<void(uint64_t next_gfn)>;
inline void IgnoreFrame(uint64_t) {}
// Gets the amount done so far: of bytes that are sent.
using OnBytes = absl::FunctionRef<void(uint64_t done_bytes)>;
inline void IgnoreBytes(uint64_t) {}

struct ClientOptions {
  // Bounds each call with its retries; of a ranged method, each piece. Without
  // it a unary call gets kDefaultTimeout and a stream none.
  std::optional<absl::Duration> timeout;
  // No call goes on after this, whatever it consists of.
  absl::Time deadline = absl::InfiniteFuture();
  RetryOptions retry;
  RetryClock clock;
};

class Client {
 public:
  // Connects lazily: an absent daemon shows at the first call. Fails if the
  // target is no good or a TLS file cannot be read.
  static absl::StatusOr<std::unique_ptr<Client>> Create(
      const Target& target, const ClientOptions& options = {});
  ~Client();

  // The same connection for work that has to end by then, with all its pieces
  // and retries. Independent of this object.
  std::unique_ptr<Client> WithDeadline(absl::Time deadline) const;

  // What a unary call gets if Create() got no timeout. REQUIRES: no call is
  // under way.
  void SetDefaultTimeout(absl::Duration timeout);

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  absl::StatusOr<v1::GetInfoResponse> GetInfo();
  // What grpc.health.v1 says of the daemon as a whole.
  absl::StatusOr<bool> IsServing();

  absl::StatusOr<v1::CreateVmResponse> CreateVm(const v1::CreateVmRequest&);
  absl::StatusOr<v1::GetVmResponse> GetVm(const v1::GetVmRequest&);
  absl::StatusOr<v1::ListVmsResponse> ListVms();
  absl::StatusOr<v1::UpdateVmResponse> UpdateVm(const v1::UpdateVmRequest&);
  absl::StatusOr<v1::DeleteVmResponse> DeleteVm(const v1::DeleteVmRequest&);
  absl::StatusOr<v1::StartVmResponse> StartVm(const v1::StartVmRequest&);
  absl::StatusOr<v1::PauseVmResponse> PauseVm(const v1::PauseVmRequest&);
  absl::StatusOr<v1::ResumeVmResponse> ResumeVm(const v1::ResumeVmRequest&);
  absl::StatusOr<v1::StopVmResponse> StopVm(const v1::StopVmRequest&);

  absl::StatusOr<v1::CreateMemslotResponse> CreateMemslot(
      const v1::CreateMemslotRequest&);
  absl::StatusOr<v1::GetMemslotResponse> GetMemslot(
      const v1::GetMemslotRequest&);
  absl::StatusOr<v1::ListMemslotsResponse> ListMemslots(
      const std::string& vm_name);
  absl::StatusOr<v1::UpdateMemslotResponse> UpdateMemslot(
      const v1::UpdateMemslotRequest&);
  absl::StatusOr<v1::DeleteMemslotResponse> DeleteMemslot(
      const v1::DeleteMemslotRequest&);

  absl::StatusOr<v1::LoadGuestResponse> LoadGuest(const v1::LoadGuestRequest&);
  absl::StatusOr<v1::GetVcpuResponse> GetVcpu(const v1::GetVcpuRequest&);
  absl::StatusOr<v1::ListVcpusResponse> ListVcpus(const std::string& vm_name);
  absl::StatusOr<v1::WaitVcpuResponse> WaitVcpu(const v1::WaitVcpuRequest&);

  absl::StatusOr<v1::MapRangeResponse> MapRange(const v1::MapRangeRequest&,
                                                OnFrame = IgnoreFrame);
  absl::StatusOr<v1::ZapRangeResponse> ZapRange(const v1::ZapRangeRequest&,
                                                OnFrame = IgnoreFrame);
  absl::StatusOr<v1::ProtectRangeResponse> ProtectRange(
      const v1::ProtectRangeRequest&, OnFrame = IgnoreFrame);
  absl::StatusOr<v1::WriteProtectRangeResponse> WriteProtectRange(
      const v1::WriteProtectRangeRequest&, OnFrame = IgnoreFrame);
  absl::StatusOr<v1::SplitHugePagesResponse> SplitHugePages(
      const v1::SplitHugePagesRequest&, OnFrame = IgnoreFrame);
  absl::StatusOr<v1::CollapseHugePagesResponse> CollapseHugePages(
      const v1::CollapseHugePagesRequest&, OnFrame = IgnoreFrame);
  // With a bitmap, in pieces of as many frames as one call takes; `young` of
  // the sum covers the whole range. What was found before an error is not to be
  // found again: it is in `*sum`, up to its `next_gfn`.
  absl::Status AgeRange(const v1::AgeRangeRequest&, v1::AgeRangeResponse* sum,
                        OnFrame = IgnoreFrame);
  absl::StatusOr<v1::ApplyBatchResponse> ApplyBatch(
      const v1::ApplyBatchRequest&);
  absl::StatusOr<v1::AuditRangeResponse> AuditRange(
      const v1::AuditRangeRequest&, OnFrame = IgnoreFrame);
  absl::StatusOr<v1::ZapAllResponse> ZapAll(const v1::ZapAllRequest&);
  absl::StatusOr<v1::WalkGfnResponse> WalkGfn(const v1::WalkGfnRequest&);
  absl::StatusOr<v1::WalkFramesResponse> WalkFrames(
      const v1::WalkFramesRequest&);
  absl::Status WalkRange(const v1::WalkRangeRequest&,
                         OnMessage<v1::WalkRangeResponse>);
  // Sends each message that `fill` makes of an empty one, until it gives false,
  // with at most `window` of them, one or more, unanswered. Answers come in
  // order. Both are called on the caller's thread and must not keep the
  // message.
  absl::Status StreamOperations(
      absl::FunctionRef<bool(v1::StreamOperationsRequest&)> fill,
      OnMessage<v1::StreamOperationsResponse>,
      int window = kDefaultOperationWindow);

  absl::StatusOr<v1::CreateDirtyConsumerResponse> CreateDirtyConsumer(
      const v1::CreateDirtyConsumerRequest&);
  absl::StatusOr<v1::ListDirtyConsumersResponse> ListDirtyConsumers(
      const std::string& vm_name);
  absl::StatusOr<v1::DeleteDirtyConsumerResponse> DeleteDirtyConsumer(
      const v1::DeleteDirtyConsumerRequest&);
  absl::Status ReadDirtyLog(const v1::ReadDirtyLogRequest&,
                            OnMessage<v1::ReadDirtyLogResponse>);
  // Clears the bits of each bitmap, which ReadDirtyLog gave; `consumer` is a
  // name or empty, as in the request. Bytes are those of the guest's frames
  // that the bitmaps sent stand for.
  absl::StatusOr<v1::ClearDirtyLogResponse> ClearDirtyLog(
      const std::string& memslot, const std::string& consumer,
      absl::Span<const v1::Bitmap> dirty, OnBytes = IgnoreBytes);

  absl::StatusOr<v1::EstimateWorkingSetResponse> EstimateWorkingSet(
      const v1::EstimateWorkingSetRequest&);
  absl::Status WatchWorkingSet(const v1::WatchWorkingSetRequest&,
                               OnMessage<v1::WatchWorkingSetResponse>);

  absl::StatusOr<v1::GetVmStatsResponse> GetVmStats(
      const v1::GetVmStatsRequest&);
  absl::Status WatchVmStats(const v1::WatchVmStatsRequest&,
                            OnMessage<v1::WatchVmStatsResponse>);
  absl::Status WatchEvents(const v1::WatchEventsRequest&,
                           OnMessage<v1::WatchEventsResponse>);
  absl::StatusOr<v1::ListWaitingAccessesResponse> ListWaitingAccesses(
      const std::string& vm_name);
  absl::StatusOr<v1::ResolveAccessResponse> ResolveAccess(
      const v1::ResolveAccessRequest&);

  absl::Status ReadGuestMemory(const v1::ReadGuestMemoryRequest&,
                               OnMessage<v1::ReadGuestMemoryResponse>);
  // Writes `bytes`, to their end, from `gpa` on.
  absl::StatusOr<v1::WriteGuestMemoryResponse> WriteGuestMemory(
      const std::string& vm_name, uint64_t gpa, std::istream& bytes,
      OnBytes = IgnoreBytes);
  absl::StatusOr<v1::DiscardRangeResponse> DiscardRange(
      const v1::DiscardRangeRequest&, OnFrame = IgnoreFrame);

 private:
  class Connection;

  explicit Client(std::unique_ptr<Connection> connection);

  const std::unique_ptr<Connection> connection_;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_CLIENT_H_
