#include "server/fuzz/call_script.h"

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

namespace tdp::server {
namespace {

using google::protobuf::Message;
using google::protobuf::TextFormat;

constexpr int kMaxDepth = 20;

class NoErrors final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

std::optional<std::string> ParseMessage(const FuzzedMethod& method,
                                        absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (absl::ConsumePrefix(&text, "=")) {
    text = absl::StripAsciiWhitespace(text);
    std::string bytes;
    if (text.size() < 2 || text.front() != '"' || text.back() != '"' ||
        !absl::CUnescape(text.substr(1, text.size() - 2), &bytes)) {
      return std::nullopt;
    }
    return bytes;
  }
  const std::unique_ptr<Message> message(method.request->New());
  TextFormat::Parser parser;
  NoErrors errors;
  parser.RecordErrorsTo(&errors);
  parser.SetRecursionLimit(kMaxDepth);
  if (!parser.ParseFromString(std::string(text), message.get())) {
    return std::nullopt;
  }
  return message->SerializeAsString();
}

std::string PrintMessage(const FuzzedMethod& method, const std::string& bytes) {
  const std::unique_ptr<Message> message(method.request->New());
  // Bytes that mean the same as the text are printed as text.
  if (message->ParseFromString(bytes) &&
      message->SerializeAsString() == bytes) {
    TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    std::string text;
    if (printer.PrintToString(*message, &text) &&
        ParseMessage(method, text) == bytes) {
      return text;
    }
  }
  return absl::StrCat("= \"", absl::CEscape(bytes), "\"");
}

}  // namespace

std::optional<CallScript> ParseScript(absl::string_view text) {
  CallScript script;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const size_t space = std::min(line.find(' '), line.size());
    const absl::string_view name = line.substr(0, space);
    if (name != "+") {
      const FuzzedMethod* const method = FindFuzzedMethod(name);
      if (method == nullptr || script.size() == kMaxScriptedCalls) {
        return std::nullopt;
      }
      script.push_back({method, {}});
    } else if (script.empty() || !script.back().method->takes_many ||
               script.back().messages.size() == kMaxScriptedMessages) {
      return std::nullopt;
    }
    std::optional<std::string> message =
        ParseMessage(*script.back().method, line.substr(space));
    if (!message.has_value()) return std::nullopt;
    script.back().messages.push_back(*std::move(message));
  }
  return script;
}

std::string PrintScript(const CallScript& script) {
  std::string text;
  for (const ScriptedCall& call : script) {
    absl::string_view name = call.method->name;
    for (const std::string& message : call.messages) {
      absl::StrAppend(&text, name, " ", PrintMessage(*call.method, message),
                      "\n");
      name = "+";
    }
  }
  return text;
}

}  // namespace tdp::server
