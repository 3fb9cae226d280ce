// Health and reflection, without a transport.

#include <atomic>
#include <set>
#include <string>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "gtest/gtest.h"
#include "server/services/health_service.h"
#include "server/services/reflection_service.h"
#include "server/testing/errors.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::server {
namespace {

using grpc::health::v1::HealthCheckResponse;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

class HealthServiceTest : public testing::Test {
 protected:
  HealthServiceTest() {
    health_.SetServices({"tdp.v1.VmService"});
    context_.set_draining(&draining_);
  }
  HealthCheckResponse::ServingStatus Check(const std::string& service) {
    HealthHandler::Request request;
    request.set_service(service);
    HealthHandler::Response response;
    EXPECT_TRUE(health_.Check(context_, request, &response).ok());
    return response.status();
  }

  HealthHandler health_;
  std::atomic<bool> draining_ = false;
  CallContext context_;
};

TEST_F(HealthServiceTest, ServesUntilTheDaemonDrains) {
  EXPECT_EQ(Check(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(Check("tdp.v1.VmService"), HealthCheckResponse::SERVING);
  draining_ = true;
  EXPECT_EQ(Check(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check("tdp.v1.VmService"), HealthCheckResponse::NOT_SERVING);
}

TEST_F(HealthServiceTest, DoesNotKnowOtherServices) {
  HealthHandler::Request request;
  request.set_service("tdp.v1.Other");
  HealthHandler::Response response;
  EXPECT_EQ(ReasonOf(health_.Check(context_, request, &response)),
            "RESOURCE_NOT_FOUND");
}

TEST_F(HealthServiceTest, TellsAWatcherOfEachChange) {
  auto source = *health_.Watch(context_, HealthHandler::Request());
  HealthHandler::Response message;
  EXPECT_EQ(source->Next(context_, &message)->kind, StreamStep::Kind::kSend);
  EXPECT_EQ(message.status(), HealthCheckResponse::SERVING);
  EXPECT_EQ(source->Next(context_, &message)->kind, StreamStep::Kind::kPark);
  draining_ = true;
  EXPECT_EQ(source->Next(context_, &message)->kind, StreamStep::Kind::kSend);
  EXPECT_EQ(message.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(ReasonOf(source->Next(context_, &message).status()), "DRAINING");
}

TEST_F(HealthServiceTest, LetsAWatcherOfAnUnknownServiceWait) {
  HealthHandler::Request request;
  request.set_service("tdp.v1.Other");
  auto source = *health_.Watch(context_, request);
  HealthHandler::Response message;
  EXPECT_EQ(source->Next(context_, &message)->kind, StreamStep::Kind::kSend);
  EXPECT_EQ(message.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  EXPECT_EQ(source->Next(context_, &message)->kind, StreamStep::Kind::kPark);
}

class ReflectionServiceTest : public testing::Test {
 protected:
  ReflectionServiceTest() {
    reflection_.SetServices({"tdp.v1.MmuService", "grpc.health.v1.Health"});
    request_.set_host("here");
  }
  const ServerReflectionResponse& Answer() {
    response_.Clear();
    reflection_.Answer(request_, &response_);
    EXPECT_EQ(response_.valid_host(), "here");
    EXPECT_EQ(response_.original_request().SerializeAsString(),
              request_.SerializeAsString());
    return response_;
  }
  // Names of the files in the answer; each must come once, and with it
  // everything that it imports.
  std::set<std::string> Files() {
    std::set<std::string> names;
    std::set<std::string> imports;
    for (const std::string& bytes :
         Answer().file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      EXPECT_TRUE(file.ParseFromString(bytes));
      EXPECT_TRUE(names.insert(file.name()).second) << file.name();
      imports.insert(file.dependency().begin(), file.dependency().end());
    }
    for (const std::string& name : imports) {
      EXPECT_TRUE(names.contains(name)) << name;
    }
    return names;
  }
  int ErrorCode() { return Answer().error_response().error_code(); }

  ReflectionHandler reflection_;
  ServerReflectionRequest request_;
  ServerReflectionResponse response_;
};

TEST_F(ReflectionServiceTest, ListsServices) {
  request_.set_list_services("*");
  const auto& list = Answer().list_services_response();
  ASSERT_EQ(list.service_size(), 2);
  EXPECT_EQ(list.service(0).name(), "tdp.v1.MmuService");
}

TEST_F(ReflectionServiceTest, FindsFilesByNameAndBySymbol) {
  ASSERT_NE(v1::MapRangeRequest::descriptor(), nullptr);
  request_.set_file_by_filename("tdp/v1/mmu_service.proto");
  EXPECT_TRUE(Files().contains("google/protobuf/duration.proto"));
  for (const char* symbol :
       {"tdp.v1.MmuService", "tdp.v1.MmuService.MapRange",
        "tdp.v1.MapRangeRequest", "tdp.v1.MapRangeRequest.range"}) {
    request_.set_file_containing_symbol(symbol);
    EXPECT_TRUE(Files().contains("tdp/v1/mmu_service.proto")) << symbol;
  }
}

TEST_F(ReflectionServiceTest, CanBeAskedAboutItselfAndHealth) {
  request_.set_file_containing_symbol(
      "grpc.reflection.v1alpha.ServerReflection");
  EXPECT_EQ(Files().size(), 1u);
  request_.set_file_containing_symbol("grpc.health.v1.Health");
  EXPECT_EQ(Files().size(), 1u);
}

TEST_F(ReflectionServiceTest, AnswersWhatItDoesNotFindWithAnError) {
  constexpr int kNotFound = 5;
  constexpr int kInvalidArgument = 3;
  request_.set_file_by_filename("no/such.proto");
  EXPECT_EQ(ErrorCode(), kNotFound);
  request_.set_file_containing_symbol("no.Such");
  EXPECT_EQ(ErrorCode(), kNotFound);
  request_.set_all_extension_numbers_of_type("no.Such");
  EXPECT_EQ(ErrorCode(), kNotFound);
  auto* extension = request_.mutable_file_containing_extension();
  EXPECT_EQ(ErrorCode(), kNotFound);
  extension->set_containing_type("tdp.v1.MapRangeRequest");
  extension->set_extension_number(100);
  EXPECT_EQ(ErrorCode(), kNotFound);
  request_.clear_message_request();
  EXPECT_EQ(ErrorCode(), kInvalidArgument);
}

TEST_F(ReflectionServiceTest, KnowsThatAMessageHasNoExtensions) {
  request_.set_all_extension_numbers_of_type("tdp.v1.MapRangeRequest");
  const auto& numbers = Answer().all_extension_numbers_response();
  EXPECT_EQ(numbers.base_type_name(), "tdp.v1.MapRangeRequest");
  EXPECT_EQ(numbers.extension_number_size(), 0);
}

}  // namespace
}  // namespace tdp::server
