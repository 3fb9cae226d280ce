// Threads inherit the priority of the one that makes them. Only those of the
// bulk lane may run below the daemon's: guests, pagers and whoever answers
// small calls must not.

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/vm/vm_registry.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/daemon.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"
#include "tdp/v1/working_set_service.grpc.pb.h"

namespace tdp::server {
namespace {

constexpr char kVm[] = "vms/a";
constexpr uint64_t kFrames = 4096;

struct ThreadInfo {
  std::string name;
  int nice = 0;
  int policy = 0;
};

std::vector<ThreadInfo> AllThreads() {
  std::vector<ThreadInfo> threads;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "stat");
    std::string line;
    if (!std::getline(file, line)) continue;  // it has just ended
    const size_t open = line.find('(');
    const size_t close = line.rfind(')');
    // From the third field of proc(5) on.
    const std::vector<std::string> fields =
        absl::StrSplit(line.substr(close + 2), ' ');
    ThreadInfo& thread = threads.emplace_back();
    thread.name = line.substr(open + 1, close - open - 1);
    EXPECT_TRUE(absl::SimpleAtoi(fields[19 - 3], &thread.nice)) << line;
    EXPECT_TRUE(absl::SimpleAtoi(fields[41 - 3], &thread.policy)) << line;
  }
  return threads;
}

class ThreadPriorityTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-priority-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    DaemonOptions options;
    options.listen = absl::StrCat("unix:", folder_, "/s");
    auto daemon = Daemon::Start(options, VmRegistry::Create);
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    channel_ =
        grpc::CreateChannel(options.listen, grpc::InsecureChannelCredentials());
  }
  void TearDown() override {
    channel_.reset();
    if (daemon_ != nullptr) daemon_->Shutdown(absl::Seconds(60));
    daemon_.reset();
    std::filesystem::remove_all(folder_);
  }

  template <typename Service, typename Request, typename Response>
  Response Call(grpc::Status (Service::Stub::*method)(grpc::ClientContext*,
                                                      const Request&,
                                                      Response*),
                const Request& request) {
    grpc::ClientContext context;
    Response response;
    const auto stub = Service::NewStub(channel_);
    const grpc::Status status = ((*stub).*method)(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  void MapAndZap() {
    v1::MapRangeRequest map;
    map.set_vm(kVm);
    map.mutable_range()->set_end_gfn(kFrames);
    Call<v1::MmuService>(&v1::MmuService::Stub::MapRange, map);
    v1::ZapRangeRequest zap;
    zap.set_vm(kVm);
    *zap.mutable_range() = map.range();
    Call<v1::MmuService>(&v1::MmuService::Stub::ZapRange, zap);
    // Retires tables, which the engine's own worker frees.
    v1::ZapAllRequest all;
    all.set_vm(kVm);
    all.set_wait(true);
    Call<v1::MmuService>(&v1::MmuService::Stub::ZapAll, all);
  }

  std::string folder_;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(ThreadPriorityTest, OnlyTheBulkLaneRunsBelowTheDaemon) {
  v1::CreateVmRequest create;
  create.set_vm_id("a");
  create.mutable_vm()->set_vcpu_count(2);
  Call<v1::VmService>(&v1::VmService::Stub::CreateVm, create);
  v1::CreateMemslotRequest memslot;
  memslot.set_parent(kVm);
  memslot.set_memslot_id("ram");
  memslot.mutable_memslot()->set_frame_count(kFrames);
  Call<v1::MemslotService>(&v1::MemslotService::Stub::CreateMemslot, memslot);
  // Bulk work first: what is made at a first use is made by it, if it can be.
  MapAndZap();

  v1::LoadGuestRequest load;
  load.set_name(absl::StrCat(kVm, "/vcpus/-"));
  auto* touch = load.mutable_guest()->mutable_touch();
  touch->mutable_range()->set_end_gfn(kFrames);
  touch->set_pass_count(-1);
  Call<v1::VcpuService>(&v1::VcpuService::Stub::LoadGuest, load);
  v1::StartVmRequest start;
  start.set_name(kVm);
  Call<v1::VmService>(&v1::VmService::Stub::StartVm, start);
  // Its thread lives as long as somebody watches.
  grpc::ClientContext watching;
  v1::WatchWorkingSetRequest watch;
  watch.set_vm(kVm);
  const auto watcher = v1::WorkingSetService::NewStub(channel_);
  const auto stream = watcher->WatchWorkingSet(&watching, watch);
  v1::WatchWorkingSetResponse update;
  EXPECT_TRUE(stream->Read(&update));
  v1::EstimateWorkingSetRequest estimate;
  estimate.set_vm(kVm);
  Call<v1::WorkingSetService>(&v1::WorkingSetService::Stub::EstimateWorkingSet,
                              estimate);
  MapAndZap();

  const int mine = getpriority(PRIO_PROCESS, 0);
  std::set<std::string> names;
  for (const ThreadInfo& thread : AllThreads()) {
    const bool bulk = thread.name.starts_with("tdpd-bulk-");
    names.insert(thread.name);
    EXPECT_EQ(thread.policy, 0) << thread.name;
    if (bulk) {
      EXPECT_GT(thread.nice, mine) << thread.name;
    } else {
      EXPECT_EQ(thread.nice, mine) << thread.name;
    }
  }
  for (const char* name : {"tdpd-bulk-0", "tdpd-ctl-0", "tdpd-poll-0",
                           "tdpd-vcpu0", "tdpd-vcpu1", "tdpd-scanner"}) {
    EXPECT_TRUE(names.contains(name)) << name << " was not looked at";
  }
  EXPECT_LT(names.size(), 32u);
  watching.TryCancel();
  stream->Finish();
}

}  // namespace
}  // namespace tdp::server
