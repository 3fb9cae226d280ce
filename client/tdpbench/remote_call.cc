#include "client/tdpbench/remote_call.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "client/lib/call_error.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::client {
namespace {

// splitmix64: one number of many.
uint64_t NextRandom(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

class CallBase : public RemoteCall {
 public:
  CallBase(absl::Duration timeout, void* tag) : tag_(tag) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }

  absl::Status status() const override {
    if (status_.ok()) return absl::OkStatus();
    return MakeCallError(status_.error_code(), status_.error_message(),
                         status_.error_details());
  }

 protected:
  grpc::ClientContext context_;
  grpc::Status status_;
  void* const tag_;
};

template <typename Response>
class UnaryCall final : public CallBase {
 public:
  template <typename Stub, typename Request>
  UnaryCall(Stub& stub,
            std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> (
                Stub::*method)(grpc::ClientContext*, const Request&,
                               grpc::CompletionQueue*),
            const Request& request, absl::Duration timeout,
            grpc::CompletionQueue& queue, void* tag)
      : CallBase(timeout, tag),
        reader_((stub.*method)(&context_, request, &queue)) {
    reader_->Finish(&response_, &status_, tag);
  }

  bool Advance(bool) override { return true; }

 private:
  const std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader_;
  Response response_;
};

// Reads the stream to its end.
class WalkRangeCall final : public CallBase {
 public:
  WalkRangeCall(v1::MmuService::Stub& stub, const v1::WalkRangeRequest& request,
                absl::Duration timeout, grpc::CompletionQueue& queue, void* tag)
      : CallBase(timeout, tag),
        reader_(stub.AsyncWalkRange(&context_, request, &queue, tag)) {}

  bool Advance(bool ok) override {
    if (finishing_) return true;
    if (ok) {
      reader_->Read(&response_, tag_);
    } else {
      finishing_ = true;
      reader_->Finish(&status_, tag_);
    }
    return false;
  }

 private:
  const std::unique_ptr<grpc::ClientAsyncReader<v1::WalkRangeResponse>> reader_;
  v1::WalkRangeResponse response_;
  bool finishing_ = false;
};

// Opens a stream, sends one message of operations and reads its answer.
class StreamOpsCall final : public CallBase {
 public:
  StreamOpsCall(v1::MmuService::Stub& stub, v1::StreamOperationsRequest request,
                absl::Duration timeout, grpc::CompletionQueue& queue, void* tag)
      : CallBase(timeout, tag),
        request_(std::move(request)),
        stream_(stub.AsyncStreamOperations(&context_, &queue, tag)) {}

  bool Advance(bool ok) override {
    const Step step = std::exchange(step_, ok ? NextOf(step_) : kFinished);
    if (step == kFinished) return true;
    if (!ok || step == kRead) {
      step_ = kFinished;
      stream_->Finish(&status_, tag_);
    } else if (step == kOpened) {
      stream_->WriteLast(request_, grpc::WriteOptions(), tag_);
    } else {
      stream_->Read(&response_, tag_);
    }
    return false;
  }

  absl::Status status() const override {
    const absl::Status status = CallBase::status();
    if (!status.ok()) return status;
    for (const v1::StreamResult& result : response_.results()) {
      if (!result.has_error()) continue;
      return absl::Status(static_cast<absl::StatusCode>(result.error().code()),
                          result.error().message());
    }
    return absl::OkStatus();
  }

 private:
  // What an event stands for.
  enum Step { kOpened, kWritten, kRead, kFinished };
  static Step NextOf(Step step) {
    return static_cast<Step>(std::min<int>(step + 1, kFinished));
  }

  const v1::StreamOperationsRequest request_;
  const std::unique_ptr<grpc::ClientAsyncReaderWriter<
      v1::StreamOperationsRequest, v1::StreamOperationsResponse>>
      stream_;
  v1::StreamOperationsResponse response_;
  Step step_ = kOpened;
};

}  // namespace

struct RemoteCaller::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : info(v1::InfoService::NewStub(channel)),
        vm(v1::VmService::NewStub(channel)),
        mmu(v1::MmuService::NewStub(channel)),
        stats(v1::StatsService::NewStub(channel)) {}

  const std::unique_ptr<v1::InfoService::Stub> info;
  const std::unique_ptr<v1::VmService::Stub> vm;
  const std::unique_ptr<v1::MmuService::Stub> mmu;
  const std::unique_ptr<v1::StatsService::Stub> stats;
};

RemoteCaller::RemoteCaller(const std::shared_ptr<grpc::Channel>& channel,
                           RequestOptions options)
    : options_(std::move(options)), stubs_(std::make_unique<Stubs>(channel)) {}
RemoteCaller::~RemoteCaller() = default;
RemoteCaller::RemoteCaller(RemoteCaller&&) noexcept = default;

std::unique_ptr<RemoteCall> RemoteCaller::Start(Operation operation,
                                                uint64_t random,
                                                grpc::CompletionQueue& queue,
                                                void* tag) {
  const auto frame = [&] { return NextRandom(random) % options_.frame_count; };
  const auto unary = [&](auto& stub, auto method, const auto& request,
                         auto response) -> std::unique_ptr<RemoteCall> {
    return std::make_unique<UnaryCall<decltype(response)>>(
        stub, method, request, options_.timeout, queue, tag);
  };
  // A request about one frame, or about `batch` frames.
  const auto ranged = [&](auto request, uint64_t frame_count) {
    const uint64_t start = frame();
    request.set_vm(options_.vm_name);
    request.mutable_range()->set_start_gfn(start);
    request.mutable_range()->set_end_gfn(
        std::min(start + frame_count, options_.frame_count));
    return request;
  };
  using Mmu = v1::MmuService::Stub;
  switch (operation) {
    case Operation::kWalkGfn: {
      v1::WalkGfnRequest request;
      request.set_vm(options_.vm_name);
      request.set_gfn(frame());
      return unary(*stubs_->mmu, &Mmu::AsyncWalkGfn, request,
                   v1::WalkGfnResponse());
    }
    case Operation::kWalkFrames: {
      v1::WalkFramesRequest request;
      request.set_vm(options_.vm_name);
      for (uint64_t i = 0; i < options_.batch; ++i) request.add_gfns(frame());
      return unary(*stubs_->mmu, &Mmu::AsyncWalkFrames, request,
                   v1::WalkFramesResponse());
    }
    case Operation::kWalkRange:
      return std::make_unique<WalkRangeCall>(
          *stubs_->mmu, ranged(v1::WalkRangeRequest(), options_.batch),
          options_.timeout, queue, tag);
    case Operation::kStreamOps: {
      v1::StreamOperationsRequest request;
      request.set_vm(options_.vm_name);
      for (uint64_t i = 0; i < options_.batch; ++i) {
        request.add_operations()->set_walk_gfn(frame());
      }
      return std::make_unique<StreamOpsCall>(*stubs_->mmu, std::move(request),
                                             options_.timeout, queue, tag);
    }
    case Operation::kMap: {
      v1::MapRangeRequest request = ranged(v1::MapRangeRequest(), 1);
      // A mapping of 2M would make most later calls do nothing.
      request.set_max_level(v1::PAGE_LEVEL_4K);
      return unary(*stubs_->mmu, &Mmu::AsyncMapRange, request,
                   v1::MapRangeResponse());
    }
    case Operation::kZap:
      return unary(*stubs_->mmu, &Mmu::AsyncZapRange,
                   ranged(v1::ZapRangeRequest(), 1), v1::ZapRangeResponse());
    case Operation::kAge:
      return unary(*stubs_->mmu, &Mmu::AsyncAgeRange,
                   ranged(v1::AgeRangeRequest(), options_.batch),
                   v1::AgeRangeResponse());
    case Operation::kGetVm: {
      v1::GetVmRequest request;
      request.set_name(options_.vm_name);
      return unary(*stubs_->vm, &v1::VmService::Stub::AsyncGetVm, request,
                   v1::GetVmResponse());
    }
    case Operation::kGetStats: {
      v1::GetVmStatsRequest request;
      request.set_vm(options_.vm_name);
      return unary(*stubs_->stats, &v1::StatsService::Stub::AsyncGetVmStats,
                   request, v1::GetVmStatsResponse());
    }
    case Operation::kGetInfo:
      return unary(*stubs_->info, &v1::InfoService::Stub::AsyncGetInfo,
                   v1::GetInfoRequest(), v1::GetInfoResponse());
  }
  return nullptr;
}

}  // namespace tdp::client
