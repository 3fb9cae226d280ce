// Long calls of the real engine whose caller gives up in the middle: how much
// they still do, and how soon their handlers are done.
//
// What is asserted is counted in frames where the engine counts them as it
// goes. Times are measured and printed; their bounds are for machines that do
// other things, too. The steps of all verbs are counted in
// engine/vm/vm_cancel_test.cc.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/rpc/call_gate.h"
#include "server/service_fixture.h"
#include "tdp/v1/dirty_log_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"

namespace tdp::server {
namespace {

constexpr uint64_t kFrames = 128 * 1024;  // 512 MiB
// One table of 4K leaves: the step of a ranged verb.
constexpr int64_t kStepFrames = 512;
// A sparse log of so many frames is read for long without a message.
constexpr int64_t kLogFrames = int64_t{1} << 30;
constexpr int kTries = 5;
// Of the fastest of them.
constexpr absl::Duration kGenerous = absl::Milliseconds(250);

// Looks at the engine in the moment in which a call learns that it is not
// wanted any more, and knows when its handler is done.
class CancelGate final : public CallGate {
 public:
  explicit CancelGate(std::function<int64_t()> look) : look_(std::move(look)) {}

  absl::Status Enter(grpc::ServerContext&, CallContext& context) override {
    auto usage = std::make_shared<PeerUsage>();
    context.set_usage(usage);
    context.WakeAtEnd([this] {
      absl::MutexLock lock(&mutex_);
      if (cancel_time_ != absl::InfiniteFuture()) return;
      cancel_time_ = absl::Now();
      seen_ = look_();
    });
    absl::MutexLock lock(&mutex_);
    // The call holds it until its last step is over.
    usage_ = usage;
    entered_ = true;
    cancel_time_ = absl::InfiniteFuture();
    return absl::OkStatus();
  }
  void Leave(CallContext&, absl::StatusCode) override {}

  void AwaitEntered() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&entered_));
    entered_ = false;
  }
  void AwaitHandlerDone() {
    std::weak_ptr<PeerUsage> usage;
    {
      absl::MutexLock lock(&mutex_);
      usage = usage_;
    }
    while (!usage.expired()) absl::SleepFor(absl::Microseconds(20));
  }
  // Infinite if the call was over before.
  absl::Time cancel_time() const {
    absl::MutexLock lock(&mutex_);
    return cancel_time_;
  }
  int64_t seen() const {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }

 private:
  const std::function<int64_t()> look_;
  mutable absl::Mutex mutex_;
  bool entered_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time cancel_time_ ABSL_GUARDED_BY(mutex_);
  int64_t seen_ ABSL_GUARDED_BY(mutex_) = 0;
  std::weak_ptr<PeerUsage> usage_ ABSL_GUARDED_BY(mutex_);
};

class CancellationTest : public testing::Test {
 protected:
  void SetUp() override {
    VmRegistryOptions options;
    options.hypervisor = HypervisorKind::kSoftware;
    auto registry = VmRegistry::Create(options);
    ASSERT_TRUE(registry.ok()) << registry.status();
    VmConfig config;
    config.vcpu_count = 1;
    ASSERT_TRUE((*registry)->CreateVm("a", config, false).ok());
    vm_ = *(*registry)->FindVm("a");
    AddMemslot("ram", 0, kFrames);
    RpcServer::Options server_options;
    server_options.gates = {&gate_};
    host_.Start(*std::move(registry), server_options);
    mmu_ = v1::MmuService::NewStub(host_.Connect());
    dirty_log_ = v1::DirtyLogService::NewStub(host_.Connect());
  }

  void AddMemslot(const std::string& id, uint64_t base_gfn,
                  int64_t frame_count) {
    MemslotConfig memslot;
    memslot.base_gfn = Gfn(base_gfn);
    memslot.frame_count = frame_count;
    memslot.dirty_log_enabled = true;
    ASSERT_TRUE(vm_->CreateMemslot(id, memslot, false).ok());
  }
  int64_t MappedFrames() const { return vm_->Stats().leaf_4k_count; }
  void MapAll() {
    GfnRange rest = {Gfn(0), Gfn(kFrames)};
    while (!rest.empty()) {
      const auto progress = vm_->MapRange(rest, 1, true, {});
      ASSERT_TRUE(progress.ok()) << progress.status();
      rest.start = progress->next_gfn;
    }
  }
  template <typename Request>
  static Request OfAll() {
    Request request;
    request.set_vm("vms/a");
    request.mutable_range()->set_end_gfn(kFrames);
    return request;
  }

  // Has `call` made and given up while its handler works, some times, each time
  // after `prepare`.
  void CancelInTheMiddle(const std::string& name,
                         const std::function<void()>& prepare,
                         const std::function<void(grpc::ClientContext&)>& call,
                         int64_t max_frames_after) {
    absl::Duration fastest = absl::InfiniteDuration();
    absl::Duration slowest = absl::ZeroDuration();
    int64_t most_frames = 0;
    int in_the_middle = 0;
    const absl::Time patience = absl::Now() + absl::Seconds(60);
    while (in_the_middle < kTries) {
      ASSERT_LT(absl::Now(), patience) << name << " was always over before";
      prepare();
      grpc::ClientContext context;
      std::thread caller([&] { call(context); });
      gate_.AwaitEntered();
      context.TryCancel();
      caller.join();
      gate_.AwaitHandlerDone();
      const absl::Time done = absl::Now();
      if (gate_.cancel_time() == absl::InfiniteFuture()) continue;
      ++in_the_middle;
      fastest = std::min(fastest, done - gate_.cancel_time());
      slowest = std::max(slowest, done - gate_.cancel_time());
      most_frames =
          std::max(most_frames, std::abs(MappedFrames() - gate_.seen()));
    }
    std::cout << name << ": over " << fastest << " to " << slowest
              << " after the cancellation was seen; " << most_frames
              << " frames changed in that time\n";
    EXPECT_LE(most_frames, max_frames_after) << name;
    EXPECT_LT(fastest, kGenerous) << name;
  }

  std::shared_ptr<Vm> vm_;
  CancelGate gate_{[this] { return MappedFrames(); }};
  ServiceServer host_;
  std::unique_ptr<v1::MmuService::Stub> mmu_;
  std::unique_ptr<v1::DirtyLogService::Stub> dirty_log_;
};

TEST_F(CancellationTest, AMapEndsWithTheTableThatItIsAt) {
  CancelInTheMiddle(
      "MapRange", [this] { ASSERT_TRUE(vm_->ZapAll(true).ok()); },
      [this](grpc::ClientContext& context) {
        auto request = OfAll<v1::MapRangeRequest>();
        request.set_write(true);
        request.set_max_level(v1::PAGE_LEVEL_4K);
        v1::MapRangeResponse response;
        mmu_->MapRange(&context, request, &response);
      },
      kStepFrames);
}

TEST_F(CancellationTest, AZapEndsWithTheTableThatItIsAt) {
  CancelInTheMiddle(
      "ZapRange", [this] { MapAll(); },
      [this](grpc::ClientContext& context) {
        v1::ZapRangeResponse response;
        mmu_->ZapRange(&context, OfAll<v1::ZapRangeRequest>(), &response);
      },
      kStepFrames);
}

TEST_F(CancellationTest, AnAuditEndsSoon) {
  MapAll();
  CancelInTheMiddle(
      "AuditRange", [] {},
      [this](grpc::ClientContext& context) {
        v1::AuditRangeResponse response;
        mmu_->AuditRange(&context, OfAll<v1::AuditRangeRequest>(), &response);
      },
      0);
}

TEST_F(CancellationTest, AReadOfASparseDirtyLogEndsSoon) {
  AddMemslot("large", uint64_t{1} << 30, kLogFrames);
  CancelInTheMiddle(
      "ReadDirtyLog", [] {},
      [this](grpc::ClientContext& context) {
        v1::ReadDirtyLogRequest request;
        request.set_memslot("vms/a/memslots/large");
        request.set_sparse(true);
        v1::ReadDirtyLogResponse response;
        const auto stream = dirty_log_->ReadDirtyLog(&context, request);
        while (stream->Read(&response)) {
        }
        stream->Finish();
      },
      0);
}

}  // namespace
}  // namespace tdp::server
