#include "server/bench/bench_client.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kConnectLimit = std::chrono::seconds(10);
constexpr char kVmPrefix[] = "vms/";

[[noreturn]] void Fail(const char* what, const std::string& why) {
  std::fprintf(stderr, "rpc_bench: %s: %s\n", what, why.c_str());
  std::exit(1);
}

void Check(const char* what, const grpc::Status& status) {
  if (!status.ok()) Fail(what, status.error_message());
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  // Two clients of one server would share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  auto channel = grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(std::chrono::system_clock::now() +
                                 kConnectLimit)) {
    Fail("cannot connect to", address);
  }
  return channel;
}

}  // namespace

struct BenchClient::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : vm(v1::VmService::NewStub(channel)),
        memslot(v1::MemslotService::NewStub(channel)),
        mmu(v1::MmuService::NewStub(channel)) {}

  const std::unique_ptr<v1::VmService::Stub> vm;
  const std::unique_ptr<v1::MemslotService::Stub> memslot;
  const std::unique_ptr<v1::MmuService::Stub> mmu;
};

BenchClient::BenchClient(const std::string& address, const std::string& vm)
    : vm_(absl::StrCat(kVmPrefix, vm)),
      stubs_(std::make_unique<Stubs>(Connect(address))) {
  walk_gfn_.set_vm(vm_);
  walk_frames_.set_vm(vm_);
}

BenchClient::~BenchClient() = default;

void BenchClient::CreateVm(uint64_t frame_count) {
  v1::CreateVmRequest vm;
  vm.set_vm_id(vm_.substr(sizeof(kVmPrefix) - 1));
  vm.mutable_vm()->set_vcpu_count(1);
  v1::CreateVmResponse created;
  grpc::ClientContext vm_context;
  Check("CreateVm", stubs_->vm->CreateVm(&vm_context, vm, &created));
  v1::CreateMemslotRequest memslot;
  memslot.set_parent(vm_);
  memslot.set_memslot_id("ram");
  memslot.mutable_memslot()->set_frame_count(static_cast<int64_t>(frame_count));
  v1::CreateMemslotResponse response;
  grpc::ClientContext context;
  Check("CreateMemslot",
        stubs_->memslot->CreateMemslot(&context, memslot, &response));
}

void BenchClient::DeleteVm() {
  v1::DeleteVmRequest request;
  request.set_name(vm_);
  v1::DeleteVmResponse response;
  grpc::ClientContext context;
  Check("DeleteVm", stubs_->vm->DeleteVm(&context, request, &response));
}

const v1::WalkGfnResponse& BenchClient::WalkGfn(uint64_t gfn) {
  walk_gfn_.set_gfn(gfn);
  grpc::ClientContext context;
  Check("WalkGfn", stubs_->mmu->WalkGfn(&context, walk_gfn_, &walked_gfn_));
  return walked_gfn_;
}

const v1::WalkFramesResponse& BenchClient::WalkFrames(
    absl::Span<const uint64_t> gfns) {
  walk_frames_.mutable_gfns()->Assign(gfns.begin(), gfns.end());
  grpc::ClientContext context;
  Check("WalkFrames",
        stubs_->mmu->WalkFrames(&context, walk_frames_, &walked_frames_));
  return walked_frames_;
}

void BenchClient::Map(uint64_t start_gfn, uint64_t end_gfn,
                      v1::PageLevel max_level) {
  v1::MapRangeRequest request;
  request.set_vm(vm_);
  request.set_max_level(max_level);
  request.set_write(true);
  request.mutable_range()->set_end_gfn(end_gfn);
  v1::MapRangeResponse response;
  response.set_next_gfn(start_gfn);
  do {
    request.mutable_range()->set_start_gfn(response.next_gfn());
    grpc::ClientContext context;
    Check("MapRange", stubs_->mmu->MapRange(&context, request, &response));
  } while (response.next_gfn() < end_gfn);
}

void BenchClient::Zap(uint64_t start_gfn, uint64_t end_gfn) {
  v1::ZapRangeRequest request;
  request.set_vm(vm_);
  request.mutable_range()->set_end_gfn(end_gfn);
  v1::ZapRangeResponse response;
  response.set_next_gfn(start_gfn);
  do {
    request.mutable_range()->set_start_gfn(response.next_gfn());
    grpc::ClientContext context;
    Check("ZapRange", stubs_->mmu->ZapRange(&context, request, &response));
  } while (response.next_gfn() < end_gfn);
}

void BenchClient::Stream(absl::Span<v1::StreamOperationsRequest> messages) {
  messages.front().set_vm(vm_);
  grpc::ClientContext context;
  const auto stream = stubs_->mmu->StreamOperations(&context);
  v1::StreamOperationsResponse response;
  const auto read = [&](const v1::StreamOperationsRequest& request) {
    if (!stream->Read(&response)) Check("StreamOperations", stream->Finish());
    if (response.results_size() != request.operations_size()) {
      Fail("StreamOperations", "a result is missing");
    }
    for (const v1::StreamResult& result : response.results()) {
      if (result.has_error()) {
        Fail("StreamOperations", result.error().message());
      }
    }
  };
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!stream->Write(messages[i])) {
      Check("StreamOperations", stream->Finish());
    }
    if (i > 0) read(messages[i - 1]);
  }
  read(messages.back());
  stream->WritesDone();
  Check("StreamOperations", stream->Finish());
}

bool BenchClient::HasStream() {
  grpc::ClientContext context;
  const auto stream = stubs_->mmu->StreamOperations(&context);
  v1::StreamOperationsRequest request;
  request.set_vm(vm_);
  request.add_operations()->set_walk_gfn(0);
  v1::StreamOperationsResponse response;
  const bool answered = stream->Write(request) && stream->Read(&response);
  stream->WritesDone();
  return stream->Finish().ok() && answered;
}

std::vector<double> BenchClient::WalkPipelined(absl::Span<const uint64_t> gfns,
                                               int in_flight) {
  struct Slot {
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::WalkGfnResponse>> call;
    v1::WalkGfnResponse response;
    grpc::Status status;
    Clock::time_point start;
  };
  std::vector<double> times;
  times.reserve(gfns.size());
  std::vector<Slot> slots(static_cast<size_t>(in_flight));
  grpc::CompletionQueue queue;
  size_t sent = 0;
  const auto send = [&](Slot& slot) {
    if (sent == gfns.size()) return;
    walk_gfn_.set_gfn(gfns[sent++]);
    slot.start = Clock::now();
    slot.context = std::make_unique<grpc::ClientContext>();
    slot.call =
        stubs_->mmu->AsyncWalkGfn(slot.context.get(), walk_gfn_, &queue);
    slot.call->Finish(&slot.response, &slot.status, &slot);
  };
  for (Slot& slot : slots) send(slot);
  while (times.size() < gfns.size()) {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    Slot& slot = *static_cast<Slot*>(tag);
    Check("WalkGfn", slot.status);
    times.push_back(
        std::chrono::duration<double, std::nano>(Clock::now() - slot.start)
            .count());
    send(slot);
  }
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
  return times;
}

}  // namespace tdp::server::bench
