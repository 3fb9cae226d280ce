#include "server/fuzz/fuzzed_methods.h"

#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "server/fuzz/call_script.h"
#include "server/fuzz/request_mutator.h"

namespace tdp::server {
namespace {

TEST(FuzzedMethodsTest, EveryMethodOfTheApiIsFuzzed) {
  std::set<std::string> missing;
  std::set<const google::protobuf::FileDescriptor*> files;
  for (const FuzzedMethod& method : FuzzedMethods()) {
    files.insert(method.request->GetDescriptor()->file());
  }
  EXPECT_GE(files.size(), 10u);
  for (const auto* file : files) {
    if (file->package() != "tdp.v1") continue;
    for (int i = 0; i < file->service_count(); ++i) {
      const auto* service = file->service(i);
      for (int j = 0; j < service->method_count(); ++j) {
        const auto* method = service->method(j);
        const std::string name =
            absl::StrCat(service->name(), ".", method->name());
        const FuzzedMethod* const fuzzed = FindFuzzedMethod(name);
        if (fuzzed == nullptr) {
          missing.insert(name);
          continue;
        }
        EXPECT_EQ(fuzzed->request->GetDescriptor(), method->input_type());
        EXPECT_EQ(fuzzed->takes_many, method->client_streaming());
      }
    }
  }
  EXPECT_EQ(missing, std::set<std::string>());
}

TEST(CallScriptTest, AScriptIsReadAsItWasPrinted) {
  const std::string text =
      "VmService.CreateVm vm_id: \"x\" vm { vcpu_count: 1 }\n"
      "GuestMemoryService.WriteGuestMemory vm: \"vms/a\"\n"
      "+ gpa: 4096 data: \"\\001\"\n"
      "VmService.GetVm = \"\\377\"\n";
  const auto script = ParseScript("# a comment\n\n" + text);
  ASSERT_TRUE(script.has_value());
  ASSERT_EQ(script->size(), 3u);
  EXPECT_EQ((*script)[1].messages.size(), 2u);
  EXPECT_EQ((*script)[2].messages[0], "\xff");
  const auto again = ParseScript(PrintScript(*script));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(PrintScript(*again), PrintScript(*script));
  EXPECT_EQ((*again)[1].messages, (*script)[1].messages);
}

TEST(CallScriptTest, WhatIsNoScriptIsNotRead) {
  for (const char* text :
       {"VmService.Nothing", "+ vm: \"vms/a\"", "VmService.GetVm vm: 1",
        "VmService.GetVm name: \"a\"\n+ name: \"a\"", "VmService.GetVm = x",
        "VmService.GetVm = \"", "\xff\xfe"}) {
    EXPECT_FALSE(ParseScript(text).has_value()) << text;
  }
}

// The entries of a map may come in any order.
bool SaySame(const google::protobuf::Message& type, const std::string& a,
             const std::string& b) {
  if (a == b) return true;
  const std::unique_ptr<google::protobuf::Message> left(type.New());
  const std::unique_ptr<google::protobuf::Message> right(type.New());
  return left->ParseFromString(a) && right->ParseFromString(b) &&
         google::protobuf::util::MessageDifferencer::Equals(*left, *right);
}

TEST(RequestMutatorTest, WhatItMakesIsAScriptAndReachesEveryMethod) {
  std::set<const FuzzedMethod*> reached;
  CallScript script;
  RequestMutator mutator(1);
  for (int i = 0; i < 20'000; ++i) {
    mutator.Mutate(script);
    ASSERT_LE(script.size(), kMaxScriptedCalls);
    for (const ScriptedCall& call : script) reached.insert(call.method);
    if (i % 100 == 0) {
      const auto again = ParseScript(PrintScript(script));
      ASSERT_TRUE(again.has_value()) << PrintScript(script);
      ASSERT_EQ(again->size(), script.size());
      for (size_t j = 0; j < script.size(); ++j) {
        ASSERT_EQ((*again)[j].messages.size(), script[j].messages.size());
        for (size_t k = 0; k < script[j].messages.size(); ++k) {
          EXPECT_TRUE(SaySame(*script[j].method->request,
                              (*again)[j].messages[k], script[j].messages[k]));
        }
      }
      script.clear();
    }
  }
  EXPECT_EQ(reached.size(), FuzzedMethods().size());
}

}  // namespace
}  // namespace tdp::server
