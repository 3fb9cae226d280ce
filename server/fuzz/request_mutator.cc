#include "server/fuzz/request_mutator.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "server/convert/paging.h"

namespace tdp::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Edges of numbers, of levels, and of what FuzzedWorld holds.
constexpr uint64_t kNumbers[] = {0,
                                 1,
                                 2,
                                 5,
                                 63,
                                 64,
                                 256,
                                 511,
                                 512,
                                 1000,
                                 1024,
                                 2048,
                                 4096,
                                 4096 + 512,
                                 8192,
                                 8192 + 512,
                                 65536,
                                 uint64_t{1} << 19,
                                 uint64_t{1} << 20,
                                 uint64_t{1} << 31,
                                 uint64_t{1} << 34,
                                 uint64_t{1} << 36,
                                 uint64_t{1} << 45,
                                 uint64_t{1} << 52,
                                 uint64_t{1} << 63,
                                 ~uint64_t{0}};

constexpr const char* kTexts[] = {
    "",
    "a",
    "b",
    "new",
    "ram",
    "waits",
    "fixed",
    "extra",
    "vms/a",
    "vms/b",
    "vms/new",
    "vms/-",
    "vms/a/",
    "vms/A",
    "vms/a/vcpus/0",
    "vms/a/vcpus/1",
    "vms/a/vcpus/-",
    "vms/a/vcpus/18446744073709551616",
    "vms/b/vcpus/0",
    "vms/a/memslots/ram",
    "vms/a/memslots/waits",
    "vms/a/memslots/fixed",
    "vms/a/memslots/new",
    "vms/a/dirtyConsumers/default",
    "vms/a/dirtyConsumers/extra",
    "vms/a/dirtyConsumers/new",
    "1",
    "2",
    "labels",
    "read_only",
    "base_gfn",
    "dirty_log_enabled",
    "fault_policy",
    "map_around_frame_count",
    "frame_count",
    "*",
    "name",
    "123e4567-e89b-42d3-a456-426614174000",
    "image",
    "../image",
    "/etc/passwd",
    "sub/../../x",
    "tdp.v1.VmService",
    "tdp/v1/vm_service.proto",
    "\xe2\x80\xae\xf0\x9f\x90\x99",
    "line\nfeed\x7f\x1b[31m",
};

constexpr const char* kLists[] = {"vms", "vms/a/vcpus", "vms/a/memslots",
                                  "vms/a/dirtyConsumers",
                                  "vms/a/waitingAccesses"};

// All messages of a tree, the root first.
void Collect(Message& message, std::vector<Message*>& all) {
  all.push_back(&message);
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      Collect(*reflection.MutableMessage(&message, field), all);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      Collect(*reflection.MutableRepeatedMessage(&message, field, i), all);
    }
  }
}

}  // namespace

uint32_t RequestMutator::Below(uint32_t limit) {
  return static_cast<uint32_t>(random_()) % limit;
}

uint64_t RequestMutator::Number(uint64_t old) {
  const uint64_t few = Below(5);
  switch (Below(6)) {
    case 0:
      return old + few - 2;
    case 1:
      return old * 2;
    case 2:
      return old / 2;
    case 3:
      return Below(10000);
    case 4:
      return kNumbers[Below(std::size(kNumbers))] + few - 2;
    default:
      return kNumbers[Below(std::size(kNumbers))];
  }
}

std::string RequestMutator::Text() {
  switch (Below(16)) {
    case 0:
      return std::string(1 + Below(300), 'a');
    case 1:
    case 2:
      return MakePageToken(kLists[Below(std::size(kLists))],
                           kTexts[Below(std::size(kTexts))]);
    default:
      return kTexts[Below(std::size(kTexts))];
  }
}

std::string RequestMutator::Bytes(std::string old) {
  switch (Below(4)) {
    case 0:
      return std::string(Below(200), static_cast<char>(Below(256)));
    case 1:
      old.resize(old.size() / 2);
      return old;
    case 2:
      old.push_back(static_cast<char>(Below(256)));
      return old;
    default:
      if (!old.empty()) {
        old[Below(static_cast<uint32_t>(old.size()))] ^=
            static_cast<char>(1 << Below(8));
      }
      return old;
  }
}

void RequestMutator::SetScalar(Message& message, const Field& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_BOOL:
      return reflection.SetBool(&message, &field,
                                !reflection.GetBool(message, &field));
    case Field::CPPTYPE_ENUM:
      return reflection.SetEnumValue(&message, &field,
                                     static_cast<int>(Below(8)) - 1);
    case Field::CPPTYPE_INT32:
      return reflection.SetInt32(
          &message, &field,
          static_cast<int32_t>(Number(static_cast<uint64_t>(
              int64_t{reflection.GetInt32(message, &field)}))));
    case Field::CPPTYPE_INT64:
      return reflection.SetInt64(
          &message, &field,
          static_cast<int64_t>(Number(
              static_cast<uint64_t>(reflection.GetInt64(message, &field)))));
    case Field::CPPTYPE_UINT32:
      return reflection.SetUInt32(
          &message, &field,
          static_cast<uint32_t>(Number(reflection.GetUInt32(message, &field))));
    case Field::CPPTYPE_UINT64:
      return reflection.SetUInt64(
          &message, &field, Number(reflection.GetUInt64(message, &field)));
    case Field::CPPTYPE_STRING:
      return reflection.SetString(
          &message, &field,
          field.type() == Field::TYPE_BYTES
              ? Bytes(reflection.GetString(message, &field))
              : Text());
    default:
      return;  // no request has such a field
  }
}

void RequestMutator::AddElement(Message& message, const Field& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_STRING:
      return reflection.AddString(&message, &field, Text());
    case Field::CPPTYPE_UINT64:
      return reflection.AddUInt64(&message, &field, Number(0));
    case Field::CPPTYPE_MESSAGE:
      return MutateMessage(*reflection.AddMessage(&message, &field));
    default:
      return;
  }
}

void RequestMutator::MutateField(Message& message, const Field& field) {
  const Reflection& reflection = *message.GetReflection();
  if (OneIn(10)) return reflection.ClearField(&message, &field);
  if (field.is_repeated()) {
    if (reflection.FieldSize(message, &field) > 0 && OneIn(3)) {
      return reflection.RemoveLast(&message, &field);
    }
    return AddElement(message, field);
  }
  if (field.cpp_type() == Field::CPPTYPE_MESSAGE) {
    return MutateMessage(*reflection.MutableMessage(&message, &field));
  }
  SetScalar(message, field);
}

void RequestMutator::MutateMessage(Message& message) {
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  if (type.field_count() == 0) return;
  const int index =
      static_cast<int>(Below(static_cast<uint32_t>(type.field_count())));
  MutateField(message, *type.field(index));
}

void RequestMutator::MutateCall(ScriptedCall& call) {
  std::string& bytes =
      call.messages[Below(static_cast<uint32_t>(call.messages.size()))];
  if (OneIn(20)) {
    bytes = Bytes(std::move(bytes));
    return;
  }
  const std::unique_ptr<Message> message(call.method->request->New());
  if (!message->ParseFromString(bytes)) message->Clear();
  for (uint32_t i = Below(3) + 1; i > 0; --i) {
    std::vector<Message*> all;
    Collect(*message, all);
    MutateMessage(*all[Below(static_cast<uint32_t>(all.size()))]);
  }
  bytes = message->SerializeAsString();
}

ScriptedCall RequestMutator::NewCall() {
  const std::vector<FuzzedMethod>& methods = FuzzedMethods();
  ScriptedCall call{&methods[Below(static_cast<uint32_t>(methods.size()))],
                    {""}};
  // Without the name of something that exists a call gets nowhere.
  const std::unique_ptr<Message> message(call.method->request->New());
  for (const char* name : {"vm", "name", "parent", "memslot"}) {
    const Field* const field = message->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr || field->is_repeated() ||
        field->cpp_type() != Field::CPPTYPE_STRING) {
      continue;
    }
    message->GetReflection()->SetString(message.get(), field, Text());
  }
  call.messages[0] = message->SerializeAsString();
  return call;
}

void RequestMutator::Mutate(CallScript& script) {
  const uint32_t size = static_cast<uint32_t>(script.size());
  const uint32_t kind = size == 0 ? 0 : Below(12);
  if (kind == 0 && size < kMaxScriptedCalls) {
    const auto place = script.begin() + Below(size + 1);
    MutateCall(*script.insert(place, NewCall()));
    return;
  }
  const auto one = script.begin() + (size == 0 ? 0 : Below(size));
  if (kind == 1 && size > 1) {
    script.erase(one);
  } else if (kind == 2 && size < kMaxScriptedCalls) {
    const ScriptedCall copy = *one;
    script.insert(script.begin() + Below(size + 1), copy);
  } else if (kind == 3) {
    std::swap(*one, script[Below(size)]);
  } else if (kind == 4 && one->method->takes_many &&
             one->messages.size() < kMaxScriptedMessages) {
    const std::string copy = one->messages.back();
    one->messages.push_back(copy);
  } else {
    MutateCall(*one);
  }
}

}  // namespace tdp::server
