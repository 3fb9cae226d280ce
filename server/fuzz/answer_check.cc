#include "server/fuzz/answer_check.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/convert/status.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr size_t kMaxMessageBytes = 800;
// What fits into the headers, base64-encoded, with room for others.
constexpr size_t kMaxDetailBytes = 5000;
// Where Linux puts what a process maps, with and without address sanitizer.
constexpr uint64_t kFirstAddress = uint64_t{1} << 44;
constexpr uint64_t kLastAddress = (uint64_t{1} << 47) - 1;
// Engines answer with ends and starts near to those that they were given.
constexpr uint64_t kNear = uint64_t{1} << 33;

// Bits of an entry: engine/doc/spte_layout.md.
constexpr uint64_t kPresentBit = uint64_t{1} << 11;
constexpr uint64_t kPageSizeBit = uint64_t{1} << 7;
constexpr uint64_t kAddressBits = ((uint64_t{1} << 52) - 1) & ~uint64_t{0xfff};

void Require(bool holds, const char* what, const FuzzedMethod& method,
             absl::string_view seen) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s: %.*s\n", method.name.c_str(), what,
               static_cast<int>(seen.size()), seen.data());
  std::abort();
}

// Calls `take` with each number in the tree whose field is none of an entry.
template <typename Take>
void ForEachNumber(const Message& message, const Take& take) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count =
        field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const bool many = field->is_repeated();
      switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_UINT64:
          if (field->name() == "raw" || field->name() == "raw_sptes") break;
          take(many ? reflection.GetRepeatedUInt64(message, field, i)
                    : reflection.GetUInt64(message, field));
          break;
        case FieldDescriptor::CPPTYPE_INT64:
          take(static_cast<uint64_t>(
              many ? reflection.GetRepeatedInt64(message, field, i)
                   : reflection.GetInt64(message, field)));
          break;
        case FieldDescriptor::CPPTYPE_MESSAGE:
          ForEachNumber(many ? reflection.GetRepeatedMessage(message, field, i)
                             : reflection.GetMessage(message, field),
                        take);
          break;
        default:
          break;
      }
    }
  }
}

bool LooksLikeAddress(uint64_t number, const KnownNumbers& known) {
  if (number < kFirstAddress || number > kLastAddress) return false;
  const auto near = known.lower_bound(number - kNear);
  return near == known.end() || *near > number + kNear;
}

// Whether `text` has no hexadecimal number that looks like an address.
bool HasNoAddress(absl::string_view text, const KnownNumbers& known) {
  for (size_t at = text.find("0x"); at != absl::string_view::npos;
       at = text.find("0x", at + 2)) {
    size_t end = at + 2;
    while (end < text.size() &&
           std::isxdigit(static_cast<unsigned char>(text[end]))) {
      ++end;
    }
    uint64_t number = 0;
    if (absl::SimpleHexAtoi(text.substr(at, end - at), &number) &&
        LooksLikeAddress(number, known)) {
      return false;
    }
  }
  return true;
}

void CheckError(const FuzzedMethod& method, const absl::Status& status,
                const KnownNumbers& known) {
  const std::string text = status.ToString();
  const std::optional<ErrorDetail> detail = DetailOf(status);
  Require(detail.has_value(), "an error without a detail", method, text);
  Require(CodeOf(detail->reason) == status.code(),
          "a code that is not the reason's", method, text);
  Require(detail->reason != ErrorReason::kInternal, "INTERNAL", method, text);

  v1::RpcStatus sent;
  const std::string bytes = ToRpcStatus(status).SerializeAsString();
  Require(bytes.size() <= kMaxDetailBytes, "an error too large for headers",
          method, text);
  Require(sent.ParseFromString(bytes), "an error that is not UTF-8", method,
          text);
  Require(!sent.message().empty() && sent.message().size() <= kMaxMessageBytes,
          "a message that is empty or too long", method, text);
  Require(HasNoAddress(sent.message(), known), "an address in a message",
          method, text);
  int info_count = 0;
  for (const auto& any : sent.details()) {
    if (any.type_url() != kErrorInfoUrl) continue;
    ++info_count;
    v1::ErrorInfo info;
    Require(info.ParseFromString(any.value()), "an ErrorInfo that is not UTF-8",
            method, text);
    Require(!info.reason().empty() && info.domain() == "tdp.v1",
            "an ErrorInfo that is not ours", method, text);
    for (const auto& [key, value] : info.metadata()) {
      Require(HasNoAddress(value, known), "an address in metadata", method,
              text);
    }
  }
  Require(info_count == 1, "not exactly one ErrorInfo", method, text);
}

bool ShowsTable(int level, uint64_t raw) {
  return level > 1 && (raw & kPresentBit) != 0 && (raw & kPageSizeBit) == 0 &&
         (raw & kAddressBits) != 0;
}

void CheckEntries(const FuzzedMethod& method, const Message& message) {
  if (message.GetDescriptor() == v1::Spte::descriptor()) {
    const auto& spte = static_cast<const v1::Spte&>(message);
    Require(!ShowsTable(spte.level(), spte.raw()), "the address of a table",
            method, spte.ShortDebugString());
    return;
  }
  if (message.GetDescriptor() == v1::WalkFramesResponse::descriptor()) {
    const auto& walk = static_cast<const v1::WalkFramesResponse&>(message);
    Require(walk.levels().size() == static_cast<size_t>(walk.raw_sptes_size()),
            "levels that are not those of the entries", method, "");
    for (int i = 0; i < walk.raw_sptes_size(); ++i) {
      Require(!ShowsTable(walk.levels()[i], walk.raw_sptes(i)),
              "the address of a table", method, "");
    }
    return;
  }
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
        field->is_map()) {
      continue;
    }
    if (!field->is_repeated()) {
      CheckEntries(method, reflection.GetMessage(message, field));
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CheckEntries(method, reflection.GetRepeatedMessage(message, field, i));
    }
  }
}

}  // namespace

void AddNumbersOf(const Message& request, KnownNumbers& out) {
  ForEachNumber(request, [&out](uint64_t number) {
    out.insert({number, number << 12, number >> 12});
  });
}

void CheckAnswer(const FuzzedMethod& method, const Answer& answer,
                 const KnownNumbers& known) {
  if (!answer.status.ok()) CheckError(method, answer.status, known);
  for (const auto& reply : answer.replies) {
    Require(
        reply->ByteSizeLong() <= static_cast<size_t>(limits::kMaxRequestBytes),
        "a reply that is too large", method, "");
    const std::unique_ptr<Message> received(reply->New());
    Require(received->ParseFromString(reply->SerializeAsString()),
            "a reply that is not UTF-8", method, "");
    ForEachNumber(*reply, [&](uint64_t number) {
      Require(!LooksLikeAddress(number, known), "an address in a reply", method,
              Hex(number));
    });
    CheckEntries(method, *reply);
  }
}

}  // namespace tdp::server
