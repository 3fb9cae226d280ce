#include "client/lib/effect.h"

#include <memory>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "gtest/gtest.h"
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
namespace {

using ::testing::MatchesRegex;

// Every unary method of the API whose second call could do harm. The others
// are expected to be idempotent, so a new method that changes something has to
// be written down here.
const std::set<std::string> kOnceMethods = {
    "CreateVm",
    "UpdateVm",
    "DeleteVm",
    "StartVm",
    "PauseVm",
    "ResumeVm",
    "StopVm",
    "CreateMemslot",
    "UpdateMemslot",
    "DeleteMemslot",
    "LoadGuest",
    "CreateDirtyConsumer",
    "DeleteDirtyConsumer",
    "ResolveAccess",
    "AgeRange",
    "DiscardRange",
};

TEST(EffectTest, EveryUnaryMethodOfTheApiHasItsEffect) {
  const google::protobuf::FileDescriptor* files[] = {
      v1::DirtyConsumer::descriptor()->file(),
      v1::Event::descriptor()->file(),
      v1::DiscardRangeRequest::descriptor()->file(),
      v1::GetInfoRequest::descriptor()->file(),
      v1::Memslot::descriptor()->file(),
      v1::MapRangeRequest::descriptor()->file(),
      v1::VmStats::descriptor()->file(),
      v1::Vcpu::descriptor()->file(),
      v1::Vm::descriptor()->file(),
      v1::WorkingSet::descriptor()->file()};
  std::set<std::string> once;
  for (const auto* file : files) {
    ASSERT_EQ(file->service_count(), 1) << file->name();
    const auto* service = file->service(0);
    for (int i = 0; i < service->method_count(); ++i) {
      const auto* method = service->method(i);
      if (method->client_streaming() || method->server_streaming()) continue;
      const std::unique_ptr<google::protobuf::Message> request(
          google::protobuf::MessageFactory::generated_factory()
              ->GetPrototype(method->input_type())
              ->New());
      if (EffectOf(*request) == Effect::kOnce) once.insert(method->name());
    }
  }
  EXPECT_EQ(once, kOnceMethods);
}

TEST(EffectTest, ARequestIdMakesACreateCallRepeatable) {
  v1::CreateVmRequest vm;
  vm.set_request_id("9c0d5a3e-0f6b-4c22-8000-000000000000");
  EXPECT_EQ(EffectOf(vm), Effect::kIdempotent);
  v1::CreateMemslotRequest memslot;
  memslot.set_request_id("9c0d5a3e-0f6b-4c22-8000-000000000000");
  EXPECT_EQ(EffectOf(memslot), Effect::kIdempotent);
}

TEST(EffectTest, WhatIsOnlyCheckedMayBeCheckedAgain) {
  v1::CreateVmRequest request;
  request.set_validate_only(true);
  EXPECT_EQ(EffectOf(request), Effect::kIdempotent);
}

TEST(EffectTest, AgingTellsWhatWasYoungOnceButLookingDoesNoHarm) {
  v1::AgeRangeRequest request;
  EXPECT_EQ(EffectOf(request), Effect::kOnce);
  request.set_test_only(true);
  EXPECT_EQ(EffectOf(request), Effect::kIdempotent);
}

TEST(EffectTest, RequestIdsAreRandomUuids) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    ids.insert(NewRequestId());
    EXPECT_THAT(*ids.begin(),
                MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-"
                             "[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  }
  EXPECT_EQ(ids.size(), 100u);
}

}  // namespace
}  // namespace tdp::client
