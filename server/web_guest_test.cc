// What the web page is told of a guest that runs is what the RPCs say of it.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/vm/vm_registry.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/daemon.h"
#include "server/http/http_client.h"
#include "server/web/heatmap.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server {
namespace {

using google::protobuf::Struct;

constexpr char kVm[] = "vms/a";
constexpr uint64_t kBase = 100;
constexpr uint64_t kFrames = 3000;
constexpr uint64_t kForbidden = 2500;

class WebGuestTest : public testing::TestWithParam<HypervisorKind> {
 protected:
  void SetUp() override {
    if (GetParam() == HypervisorKind::kKvm &&
        access("/dev/kvm", R_OK | W_OK) != 0) {
      GTEST_SKIP() << "there is no /dev/kvm";
    }
    char folder[] = "/tmp/tdpd-web-guest-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    DaemonOptions options;
    options.listen = absl::StrCat("unix:", folder_, "/s");
    options.observe.http = "127.0.0.1:0";
    options.web = true;
    options.web_token_file = folder_ + "/token";
    options.engine.hypervisor = GetParam();
    auto daemon = Daemon::Start(options, VmRegistry::Create);
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    channel_ =
        grpc::CreateChannel(options.listen, grpc::InsecureChannelCredentials());
    std::ifstream(options.web_token_file) >> token_;
    absl::string_view line = daemon_->ready_line();
    absl::ConsumeSuffix(&line, "/");
    ASSERT_TRUE(absl::SimpleAtoi(line.substr(line.rfind(':') + 1), &port_))
        << daemon_->ready_line();
  }
  void TearDown() override {
    channel_.reset();
    if (daemon_ != nullptr) daemon_->Shutdown(absl::Seconds(60));
    daemon_.reset();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
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
  // Writes every frame of the memslot, in order, until it waits.
  void RunGuest() {
    v1::CreateVmRequest create;
    create.set_vm_id("a");
    create.mutable_vm()->set_vcpu_count(1);
    Call<v1::VmService>(&v1::VmService::Stub::CreateVm, create);
    v1::CreateMemslotRequest memslot;
    memslot.set_parent(kVm);
    memslot.set_memslot_id("ram");
    memslot.mutable_memslot()->set_base_gfn(kBase);
    memslot.mutable_memslot()->set_frame_count(kFrames);
    Call<v1::MemslotService>(&v1::MemslotService::Stub::CreateMemslot, memslot);
    v1::ProtectRangeRequest protect;
    protect.set_vm(kVm);
    protect.mutable_range()->set_start_gfn(kForbidden);
    protect.mutable_range()->set_end_gfn(kForbidden + 1);
    protect.mutable_access()->set_read(true);
    Call<v1::MmuService>(&v1::MmuService::Stub::ProtectRange, protect);
    v1::MapRangeRequest map;
    map.set_vm(kVm);
    *map.mutable_range() = protect.range();
    Call<v1::MmuService>(&v1::MmuService::Stub::MapRange, map);
    v1::LoadGuestRequest load;
    load.set_name(absl::StrCat(kVm, "/vcpus/0"));
    auto* touch = load.mutable_guest()->mutable_touch();
    touch->mutable_range()->set_start_gfn(kBase);
    touch->mutable_range()->set_end_gfn(kBase + kFrames);
    touch->set_pattern(v1::TouchGuest::PATTERN_SEQUENTIAL);
    touch->set_write(true);
    Call<v1::VcpuService>(&v1::VcpuService::Stub::LoadGuest, load);
    v1::StartVmRequest start;
    start.set_name(kVm);
    Call<v1::VmService>(&v1::VmService::Stub::StartVm, start);
  }
  Struct Get(const std::string& path) {
    RawHttpClient client(port_);
    client.Send(absl::StrCat("GET /api/", path,
                             " HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
                             "Bearer ",
                             token_, "\r\n\r\n"));
    const std::string response = client.ReadAll();
    EXPECT_EQ(response.substr(0, 15), "HTTP/1.1 200 OK") << response;
    Struct json;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(
                    response.substr(response.find("\r\n\r\n") + 4), &json)
                    .ok());
    return json;
  }
  // The accesses that wait, as the page sees them.
  std::vector<Struct> Waiting() {
    const Struct json =
        Get("rpc/EventService/"
            "ListWaitingAccesses?request=%7B%22vm%22%3A%22vms%2Fa%22%7D");
    std::vector<Struct> accesses;
    for (const auto& access :
         json.fields().at("accesses").list_value().values()) {
      accesses.push_back(access.struct_value());
    }
    return accesses;
  }
  // The cells of single frames, as the RPCs tell of them.
  std::string CellsByRpc(uint64_t first, uint64_t end) {
    std::string cells((end - first) * kHeatLayerCount, '\0');
    const auto set = [&](uint64_t gfn, HeatLayer layer) {
      cells[(gfn - first) * kHeatLayerCount + static_cast<size_t>(layer)] =
          '\xff';
    };
    for (uint64_t gfn = kBase; gfn < kBase + kFrames; ++gfn) {
      set(gfn, HeatLayer::kBacked);
    }
    set(kForbidden, HeatLayer::kWaiting);
    grpc::ClientContext context;
    v1::WalkRangeRequest walk;
    walk.set_vm(kVm);
    walk.mutable_range()->set_start_gfn(first);
    walk.mutable_range()->set_end_gfn(end);
    walk.set_leaves_only(true);
    walk.set_present_only(true);
    const auto stub = v1::MmuService::NewStub(channel_);
    const auto stream = stub->WalkRange(&context, walk);
    v1::WalkRangeResponse message;
    while (stream->Read(&message)) {
      for (const v1::Spte& spte : message.sptes()) {
        EXPECT_EQ(spte.level(), v1::PAGE_LEVEL_4K);
        const uint64_t gfn = spte.base_gfn();
        set(gfn, HeatLayer::kMapped4K);
        if (spte.dirty()) set(gfn, HeatLayer::kDirty);
        if (spte.accessed()) set(gfn, HeatLayer::kYoung);
        if (!spte.access().write()) set(gfn, HeatLayer::kProtected);
      }
    }
    EXPECT_TRUE(stream->Finish().ok());
    return cells;
  }

  std::string folder_;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<grpc::Channel> channel_;
  std::string token_;
  int port_ = 0;
};

TEST_P(WebGuestTest, TellsOfARunningGuestWhatTheRpcsTell) {
  RunGuest();
  std::vector<Struct> waiting;
  // Answered all the while that the guest runs.
  while (waiting.empty()) {
    waiting = Waiting();
    Get("heatmap?vm=vms/a&frameCount=4096&cellCount=64");
  }
  ASSERT_EQ(waiting.size(), 1u);
  EXPECT_EQ(waiting[0].fields().at("gfn").string_value(),
            absl::StrCat(kForbidden));

  // The only vCPU waits, so nothing moves any more.
  const Struct heatmap =
      Get("heatmap?vm=vms/a&firstGfn=50&frameCount=4046&cellCount=16384");
  EXPECT_EQ(heatmap.fields().at("nextGfn").string_value(), "4096");
  std::string cells;
  ASSERT_TRUE(absl::Base64Unescape(heatmap.fields().at("cells").string_value(),
                                   &cells));
  ASSERT_EQ(cells.size(), 4046 * kHeatLayerCount);
  const std::string expected = CellsByRpc(50, 4096);
  for (size_t cell = 0; cell < 4046; ++cell) {
    ASSERT_EQ(cells.substr(cell * kHeatLayerCount, kHeatLayerCount),
              expected.substr(cell * kHeatLayerCount, kHeatLayerCount))
        << "frame " << 50 + cell;
  }
  const auto at = [&](uint64_t gfn, HeatLayer layer) {
    return static_cast<uint8_t>(
        cells[(gfn - 50) * kHeatLayerCount + static_cast<size_t>(layer)]);
  };
  EXPECT_EQ(at(kForbidden - 1, HeatLayer::kDirty), 255);
  EXPECT_EQ(at(kForbidden, HeatLayer::kProtected), 255);
  EXPECT_EQ(at(kForbidden, HeatLayer::kDirty), 0);
  EXPECT_EQ(at(kForbidden + 1, HeatLayer::kMapped4K), 0);

  const Struct events = Get("events?vm=vms/a&startSequence=1");
  bool told = false;
  for (const auto& event : events.fields().at("events").list_value().values()) {
    told |= event.struct_value().fields().count("accessWaiting") > 0;
  }
  EXPECT_TRUE(told);
  const Struct charts = Get("charts");
  EXPECT_GT(charts.fields().at("methods").list_value().values_size(), 0);

  v1::StopVmRequest stop;
  stop.set_name(kVm);
  Call<v1::VmService>(&v1::VmService::Stub::StopVm, stop);
}

INSTANTIATE_TEST_SUITE_P(
    Hypervisors, WebGuestTest,
    testing::Values(HypervisorKind::kKvm, HypervisorKind::kSoftware),
    [](const testing::TestParamInfo<HypervisorKind>& info) {
      return info.param == HypervisorKind::kKvm ? "Kvm" : "Software";
    });

}  // namespace
}  // namespace tdp::server
