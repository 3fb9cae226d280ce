#include "server/web/web_api.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/vm/vm_registry.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "server/observe/log2_histogram.h"
#include "server/observe/metric_family.h"
#include "server/testing/fake_vm_registry.h"
#include "server/web/heatmap.h"

namespace tdp::server {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;
using testing::HasSubstr;

const std::string* const kToken = new std::string(40, 't');

// Two methods, of which one was called three times.
class FakeCalls final : public MetricSource {
 public:
  void Collect(std::vector<prometheus::MetricFamily>& families) const override {
    FamilyBuilder::Counter("tdpd_rpc_started_total", "Other numbers.")
        .Add({}, 7)
        .MoveTo(families);
    FamilyBuilder::Histogram("tdpd_rpc_duration_seconds", "Durations.")
        .Add({{"service", "VmService"}, {"method", "GetVm"}},
             ToHistogram({1, 0, 2}, kFirstCallBucketLog2Us, 0.5))
        .Add({{"service", "VmService"}, {"method", "StopVm"}},
             ToHistogram({0, 0, 0}, kFirstCallBucketLog2Us, 0))
        .MoveTo(families);
  }
};

class WebApiTest : public testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/tdpd-web-api-test-XXXXXX";
    const int fd = mkstemp(path);  // of mode 0600
    ASSERT_GE(fd, 0);
    close(fd);
    std::ofstream(path) << *kToken;
    auto token = WebToken::Open(path);
    unlink(path);
    ASSERT_TRUE(token.ok()) << token.status();
    api_ = std::make_unique<WebApi>(*token, registry_, bridge_, calls_,
                                    working_sets_);
  }

  HttpResponse Get(const std::string& path, const std::string& query,
                   const std::string& authorization = "Bearer " + *kToken) {
    return api_->Answer({.path = "/api/" + path,
                         .query = query,
                         .authorization = authorization});
  }
  static Struct Parsed(const std::string& json) {
    Struct result;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &result).ok())
        << json;
    return result;
  }
  Struct Json(const std::string& path, const std::string& query) {
    const HttpResponse response = Get(path, query);
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.content_type, "application/json");
    return Parsed(response.body);
  }
  // "404 NOT_FOUND RESOURCE_NOT_FOUND", and the field if it is about one.
  static std::string ErrorOf(const HttpResponse& response) {
    EXPECT_EQ(response.content_type, "application/json");
    const Struct body = Parsed(response.body);
    const auto& error = body.fields().at("error").struct_value().fields();
    EXPECT_NE(error.at("message").string_value(), "");
    std::string text =
        absl::StrCat(response.status, " ", error.at("code").string_value(), " ",
                     error.at("reason").string_value());
    const auto& metadata = error.at("metadata").struct_value().fields();
    const auto field = metadata.find("field");
    if (field != metadata.end()) {
      absl::StrAppend(&text, " ", field->second.string_value());
    }
    return text;
  }
  std::string ErrorOf(const std::string& path, const std::string& query) {
    return ErrorOf(Get(path, query));
  }
  static std::string Text(const Struct& json, const std::string& name) {
    const Value& value = json.fields().at(name);
    return value.kind_case() == Value::kNumberValue
               ? absl::StrCat(value.number_value())
               : value.string_value();
  }

  FakeVmRegistry registry_;
  const std::shared_ptr<FakeVm> vm_ = registry_.MakeVmForTest("a");
  const JsonBridge bridge_;
  const FakeCalls calls_;
  NewestWorkingSets working_sets_;
  std::unique_ptr<WebApi> api_;
};

TEST_F(WebApiTest, ShowsTheNewestWorkingSetThatSomebodyAskedFor) {
  EXPECT_THAT(Json("workingSet", "vm=vms/a").fields(), testing::IsEmpty());
  const std::shared_ptr<Vm> other = registry_.MakeVmForTest("b");
  for (const int64_t frames : {5, 7}) {
    working_sets_.Put(vm_, {.scan_time = absl::UnixEpoch(),
                            .buckets = {{absl::ZeroDuration(), frames}}});
  }
  EXPECT_THAT(Get("workingSet", "vm=vms/a").body,
              HasSubstr("\"frameCount\":\"7\""));
  EXPECT_THAT(Json("workingSet", "vm=vms/b").fields(), testing::IsEmpty());
  EXPECT_EQ(ErrorOf("workingSet", "vm=vms/c"),
            "404 NOT_FOUND RESOURCE_NOT_FOUND");
}

TEST_F(WebApiTest, AnswersNobodyWithoutTheToken) {
  for (const std::string& header :
       {std::string(), "Bearer " + std::string(40, 'u'), *kToken,
        "Bearer " + *kToken + "t"}) {
    for (const char* path : {"charts", "nonsense", "rpc/VmService/ListVms"}) {
      const HttpResponse response = Get(path, "", header);
      EXPECT_EQ(ErrorOf(response), "401 UNAUTHENTICATED UNAUTHENTICATED");
      EXPECT_THAT(response.headers, testing::Contains(testing::Pair(
                                        "WWW-Authenticate", "Bearer")));
      EXPECT_THAT(response.body, testing::Not(HasSubstr(*kToken)));
      EXPECT_THAT(response.body, HasSubstr("tdpctl web"));
    }
  }
  EXPECT_EQ(Get("charts", "").status, 200);
}

TEST_F(WebApiTest, RefusesWhatItDoesNotServe) {
  for (const char* path :
       {"", "nonsense", "charts/", "rpc", "rpc/", "rpc/MmuService/ZapRange",
        "rpc/VmService.ListVms"}) {
    EXPECT_EQ(ErrorOf(path, ""), "404 NOT_FOUND RESOURCE_NOT_FOUND") << path;
  }
  EXPECT_EQ(ErrorOf("charts", "a=b"),
            "400 INVALID_ARGUMENT FIELD_INVALID query");
  EXPECT_EQ(ErrorOf("rpc/VmService/ListVms", "request=%zz"),
            "400 INVALID_ARGUMENT FIELD_INVALID request");
  EXPECT_EQ(ErrorOf("events", ""), "400 INVALID_ARGUMENT FIELD_INVALID vm");
  EXPECT_EQ(ErrorOf("events", "vm=vms/b"), "404 NOT_FOUND RESOURCE_NOT_FOUND");
}

TEST_F(WebApiTest, ShowsWhatCameFromARequestOnlyEscaped) {
  const HttpResponse response = Get("x\"<script>", "");
  EXPECT_EQ(ErrorOf(response), "404 NOT_FOUND RESOURCE_NOT_FOUND");
  EXPECT_THAT(response.body, testing::Not(HasSubstr("<script>")));
}

TEST_F(WebApiTest, TellsEventsFromASequenceOn) {
  const Struct none = Json("events", "vm=vms/a");
  EXPECT_EQ(none.fields().at("events").list_value().values_size(), 0);
  const std::string next = Text(none, "nextSequence");
  vm_->AddEventForTest(VcpuExitedEvent{.vcpu_index = 0, .reason = "HLT"});
  const Struct one = Json("events", "vm=vms/a&startSequence=" + next);
  ASSERT_EQ(one.fields().at("events").list_value().values_size(), 1);
  const Struct& event =
      one.fields().at("events").list_value().values(0).struct_value();
  EXPECT_EQ(Text(event, "sequence"), next);
  EXPECT_EQ(Text(event.fields().at("vcpuExited").struct_value(), "reason"),
            "HLT");
  EXPECT_FALSE(one.fields().at("truncated").bool_value());
  const Struct later =
      Json("events", "vm=vms/a&startSequence=" + Text(one, "nextSequence"));
  EXPECT_EQ(later.fields().at("events").list_value().values_size(), 0)
      << "it does not wait for the next";
}

TEST_F(WebApiTest, TellsAsManyEventsAsItIsAskedForAndGoesOnBehindThem) {
  const int64_t start = vm_->ReadEvents(0, 1)->next_sequence;
  for (int i = 0; i < 600; ++i) {
    vm_->AddEventForTest(VcpuExitedEvent{.vcpu_index = i, .reason = "HLT"});
  }
  std::string next = absl::StrCat(start);
  std::vector<int> counts;
  for (int i = 0; i < 3; ++i) {
    const Struct json = Json("events", "vm=vms/a&startSequence=" + next);
    counts.push_back(json.fields().at("events").list_value().values_size());
    next = Text(json, "nextSequence");
  }
  EXPECT_EQ(counts, std::vector<int>({256, 256, 88}));
  EXPECT_EQ(next, absl::StrCat(start + 600));
  EXPECT_EQ(Json("events", "vm=vms/a&max=1&startSequence=1")
                .fields()
                .at("events")
                .list_value()
                .values_size(),
            1);
  for (const char* max : {"0", "257", "x"}) {
    EXPECT_EQ(ErrorOf("events", absl::StrCat("vm=vms/a&max=", max)),
              "400 INVALID_ARGUMENT FIELD_INVALID max");
  }
  EXPECT_EQ(ErrorOf("events", "vm=vms/a&startSequence=-1"),
            "400 INVALID_ARGUMENT FIELD_INVALID startSequence");
}

TEST_F(WebApiTest, SaysSoWhereEventsAreGoneAndBeginsWithTheOldest) {
  for (int i = 0; i < 10; ++i) {
    vm_->AddEventForTest(VcpuExitedEvent{.vcpu_index = i, .reason = "HLT"});
  }
  const int64_t oldest = vm_->ReadEvents(0, 1)->next_sequence - 4;
  vm_->DropEventsBeforeForTest(oldest);
  const Struct json = Json("events", "vm=vms/a&startSequence=1");
  EXPECT_TRUE(json.fields().at("truncated").bool_value());
  const auto& events = json.fields().at("events").list_value();
  ASSERT_EQ(events.values_size(), 4);
  EXPECT_EQ(Text(events.values(0).struct_value(), "sequence"),
            absl::StrCat(oldest));
  EXPECT_FALSE(Json("events", absl::StrCat("vm=vms/a&startSequence=", oldest))
                   .fields()
                   .at("truncated")
                   .bool_value());
}

TEST_F(WebApiTest, TellsTheHeatmapOfARange) {
  MemslotConfig config;
  config.base_gfn = Gfn(4);
  config.frame_count = 8;
  ASSERT_TRUE(vm_->CreateMemslot("ram", config, false).ok());
  ASSERT_TRUE(vm_->MapRange({Gfn(4), Gfn(6)}, 0, true, {}).ok());
  const Struct json =
      Json("heatmap", "vm=vms/a&firstGfn=2&frameCount=12&cellCount=3");
  EXPECT_EQ(Text(json, "firstGfn"), "2");
  EXPECT_EQ(Text(json, "framesPerCell"), "4");
  EXPECT_EQ(Text(json, "cellCount"), "3");
  EXPECT_EQ(Text(json, "nextGfn"), "14");
  std::string cells;
  ASSERT_TRUE(absl::Base64Unescape(Text(json, "cells"), &cells));
  const auto kBytes = {127, 0, 0, 0, 127, 0, 0, 127,  //
                       0,   0, 0, 0, 0,   0, 0, 255,  //
                       0,   0, 0, 0, 0,   0, 0, 127};
  EXPECT_EQ(cells, std::string(kBytes.begin(), kBytes.end()));
}

TEST_F(WebApiTest, TakesHeatmapsUpToTheLimitAndNoFurther) {
  const auto get = [this](const std::string& query) {
    const HttpResponse response = Get("heatmap", "vm=vms/a&" + query);
    return response.status == 200 ? "ok" : ErrorOf(response);
  };
  const std::string kInvalid = "400 INVALID_ARGUMENT FIELD_INVALID ";
  EXPECT_EQ(get("frameCount=1&cellCount=16384"), "ok");
  EXPECT_EQ(get("frameCount=1&cellCount=16385"), kInvalid + "cellCount");
  EXPECT_EQ(get("frameCount=1&cellCount=0"), kInvalid + "cellCount");
  EXPECT_EQ(get("frameCount=1"), kInvalid + "cellCount");
  EXPECT_EQ(get("frameCount=0&cellCount=1"), kInvalid + "frameCount");
  EXPECT_EQ(get("cellCount=1"), kInvalid + "frameCount");
  // The first and the last frame of the root, and one past it.
  constexpr uint64_t kFrames = FramesOfRoot(PageLevel::k512G);
  EXPECT_EQ(get(absl::StrCat("frameCount=", kFrames, "&cellCount=16384")),
            "ok");
  EXPECT_EQ(
      get(absl::StrCat("firstGfn=", kFrames - 1, "&frameCount=1&cellCount=1")),
      "ok");
  EXPECT_THAT(
      get(absl::StrCat("firstGfn=", kFrames - 1, "&frameCount=2&cellCount=1")),
      HasSubstr(kInvalid));
  for (const uint64_t frames : {uint64_t{1} << 63, (uint64_t{1} << 63) + 1,
                                ~uint64_t{0}, kMaxHeatmapFrames + 1}) {
    EXPECT_EQ(get(absl::StrCat("frameCount=", frames, "&cellCount=1")),
              kInvalid + "frameCount");
  }
  EXPECT_THAT(
      get(absl::StrCat("frameCount=", kMaxHeatmapFrames, "&cellCount=1")),
      HasSubstr(kInvalid))
      << "no root is so large";
  // The sum would not fit.
  EXPECT_EQ(get("firstGfn=18446744073709551615&frameCount=1&cellCount=1"),
            kInvalid + "frameCount");
  EXPECT_EQ(get("firstGfn=1&frameCount=18446744073709551615&cellCount=1"),
            kInvalid + "frameCount");
}

TEST_F(WebApiTest, TellsHowLongCallsTook) {
  EXPECT_EQ(Get("charts", "").body,
            "{\"upperBoundsSeconds\":[1.6e-05,3.2e-05],\"methods\":[{"
            "\"service\":\"VmService\",\"method\":\"GetVm\",\"count\":\"3\","
            "\"sumSeconds\":0.5,\"cumulativeCounts\":[\"1\",\"1\",\"3\"]}]}");
}

}  // namespace
}  // namespace tdp::server
