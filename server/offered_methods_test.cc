// What the web page may call is what gRPC answers, word for word.

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "server/service_fixture.h"
#include "server/testing/errors.h"
#include "server/web/json_bridge.h"
#include "tdp/v1/dirty_log_service.grpc.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server {
namespace {

using google::protobuf::Struct;

class OfferedMethodsTest : public testing::Test {
 protected:
  void SetUp() override {
    fake_ = &server_.StartFake();
    server_.services().OfferTo(bridge_);
    channel_ = server_.Connect();
    vm_ = fake_->MakeVmForTest("a", 2);
    MemslotConfig config;
    config.base_gfn = Gfn(uint64_t{1} << 26);
    config.frame_count = 4096;
    config.dirty_log_enabled = true;
    ASSERT_TRUE(vm_->CreateMemslot("ram", config, false).ok());
    ASSERT_TRUE(
        vm_->SetLabels({{"b", "\"<&>\\\n\xc3\xa9"}, {"a", ""}}, "").ok());
    ASSERT_TRUE(vm_->CreateDirtyConsumer("backup").ok());
    ASSERT_TRUE(
        vm_->MapRange({config.base_gfn, config.base_gfn + 3}, 0, true, {})
            .ok());
    vm_->AddWaitingAccessForTest({.access_id = int64_t{1} << 60,
                                  .gfn = config.base_gfn,
                                  .access = {true, true},
                                  .cause = WaitCause::kProtection,
                                  .detail = "why"});
  }

  static Struct Parsed(const std::string& json) {
    Struct result;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &result).ok())
        << json;
    // The moment of the call.
    if (auto& fields = *result.mutable_fields(); fields.count("stats") > 0) {
      fields["stats"].mutable_struct_value()->mutable_fields()->erase(
          "sampleTime");
    }
    result.mutable_fields()->erase("sampleTime");
    return result;
  }
  // Asks both for the same.
  template <typename Service, typename Request, typename Response>
  void Compare(const std::string& name,
               grpc::Status (Service::Stub::*method)(grpc::ClientContext*,
                                                     const Request&, Response*),
               const Request& request) {
    SCOPED_TRACE(absl::StrCat(name, " ", request.ShortDebugString()));
    compared_.insert(name);
    grpc::ClientContext context;
    Response response;
    const auto stub = Service::NewStub(channel_);
    const grpc::Status status = ((*stub).*method)(&context, request, &response);
    const auto request_json = ToJson(request);
    ASSERT_TRUE(request_json.ok()) << request_json.status();
    const auto answer = bridge_.Call(name, *request_json);
    if (!status.ok()) {
      EXPECT_EQ(ReasonOf(answer.status()), ReasonOf(status));
      EXPECT_EQ(static_cast<int>(answer.status().code()),
                static_cast<int>(status.error_code()));
      EXPECT_EQ(answer.status().message(), status.error_message());
      return;
    }
    ASSERT_TRUE(answer.ok()) << answer.status();
    const auto expected = ToJson(response);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(
        Parsed(*answer), Parsed(*expected)))
        << *answer << "\n"
        << *expected;
  }

  ServiceServer server_;
  FakeVmRegistry* fake_ = nullptr;
  std::shared_ptr<FakeVm> vm_;
  JsonBridge bridge_;
  std::shared_ptr<grpc::Channel> channel_;
  std::set<std::string> compared_;
};

TEST_F(OfferedMethodsTest, AnswerAsGrpcDoes) {
  Compare<v1::InfoService>("InfoService/GetInfo",
                           &v1::InfoService::Stub::GetInfo,
                           v1::GetInfoRequest());
  v1::ListVmsRequest list_vms;
  Compare<v1::VmService>("VmService/ListVms", &v1::VmService::Stub::ListVms,
                         list_vms);
  list_vms.set_page_token("nonsense");
  Compare<v1::VmService>("VmService/ListVms", &v1::VmService::Stub::ListVms,
                         list_vms);
  for (const char* vm : {"vms/a", "vms/none", "a", ""}) {
    v1::GetVmRequest get_vm;
    get_vm.set_name(vm);
    Compare<v1::VmService>("VmService/GetVm", &v1::VmService::Stub::GetVm,
                           get_vm);
    v1::ListVcpusRequest list_vcpus;
    list_vcpus.set_parent(vm);
    Compare<v1::VcpuService>("VcpuService/ListVcpus",
                             &v1::VcpuService::Stub::ListVcpus, list_vcpus);
    v1::ListMemslotsRequest list_memslots;
    list_memslots.set_parent(vm);
    Compare<v1::MemslotService>("MemslotService/ListMemslots",
                                &v1::MemslotService::Stub::ListMemslots,
                                list_memslots);
    v1::GetVmStatsRequest stats;
    stats.set_vm(vm);
    Compare<v1::StatsService>("StatsService/GetVmStats",
                              &v1::StatsService::Stub::GetVmStats, stats);
    v1::ListWaitingAccessesRequest waiting;
    waiting.set_vm(vm);
    Compare<v1::EventService>("EventService/ListWaitingAccesses",
                              &v1::EventService::Stub::ListWaitingAccesses,
                              waiting);
    v1::ListDirtyConsumersRequest consumers;
    consumers.set_parent(vm);
    Compare<v1::DirtyLogService>("DirtyLogService/ListDirtyConsumers",
                                 &v1::DirtyLogService::Stub::ListDirtyConsumers,
                                 consumers);
  }
  v1::WalkFramesRequest frames;
  frames.set_vm("vms/a");
  Compare<v1::MmuService>("MmuService/WalkFrames",
                          &v1::MmuService::Stub::WalkFrames, frames);
  for (const uint64_t gfn :
       {uint64_t{0}, uint64_t{1} << 26, (uint64_t{1} << 26) + 2,
        FramesOfRoot(PageLevel::k512G) - 1, FramesOfRoot(PageLevel::k512G)}) {
    v1::WalkGfnRequest walk;
    walk.set_vm("vms/a");
    walk.set_gfn(gfn);
    Compare<v1::MmuService>("MmuService/WalkGfn",
                            &v1::MmuService::Stub::WalkGfn, walk);
    frames.add_gfns(gfn);
    Compare<v1::MmuService>("MmuService/WalkFrames",
                            &v1::MmuService::Stub::WalkFrames, frames);
  }
  const std::vector<std::string> names = bridge_.names();
  EXPECT_EQ(compared_, std::set<std::string>(names.begin(), names.end()))
      << "each method that is offered is compared here";
}

TEST_F(OfferedMethodsTest, OnlyLookAndNeverBlock) {
  const auto traits = server_.server().method_traits();
  for (const std::string& name : bridge_.names()) {
    const auto method = std::find_if(
        traits.begin(), traits.end(), [&name](const MethodTraits& each) {
          return each.name == absl::StrReplaceAll(name, {{"/", "."}});
        });
    ASSERT_NE(method, traits.end()) << name;
    EXPECT_EQ(method->role, Role::kObserver) << name;
    EXPECT_EQ(method->run_on, RunOn::kPoller) << name;
    EXPECT_FALSE(method->is_stream) << name;
  }
}

TEST_F(OfferedMethodsTest, AreAllThatThereIs) {
  for (const char* name :
       {"", "/", "VmService", "VmService.GetVm", "VmService/GetVm/",
        "MmuService/ZapRange", "MmuService/WalkRange", "VmService/DeleteVm",
        "GuestMemoryService/ReadGuestMemory", "tdp.v1.VmService/GetVm"}) {
    const absl::Status status = bridge_.Call(name, "{}").status();
    EXPECT_EQ(ReasonOf(status), "RESOURCE_NOT_FOUND") << name;
    EXPECT_EQ(MetadataOf(status, "method"), name);
  }
}

TEST_F(OfferedMethodsTest, RefuseWhatIsNotTheirRequest) {
  for (const char* json :
       {"{", "[]", "null", "{\"nam\":\"vms/a\"}", "{\"name\":1.5}",
        "{\"name\":\"vms/a\"}x", "{'name':'vms/a\",", "x"}) {
    const auto answer = bridge_.Call("VmService/GetVm", json);
    EXPECT_EQ(FieldErrorOf(answer.status()), "FIELD_INVALID request") << json;
  }
  // As proto3's JSON has it: numbers as numbers or as text, names either way.
  EXPECT_TRUE(
      bridge_.Call("MmuService/WalkGfn", "{\"vm\":\"vms/a\",\"gfn\":5}").ok());
  EXPECT_TRUE(
      bridge_.Call("MmuService/WalkGfn", "{\"vm\":\"vms/a\",\"gfn\":\"5\"}")
          .ok());
  EXPECT_TRUE(bridge_.Call("VmService/ListVms", "{\"page_size\":1}").ok());
  EXPECT_TRUE(bridge_.Call("VmService/ListVms", "").ok());
}

}  // namespace
}  // namespace tdp::server
