// libFuzzer's hook for those who know their inputs: scripts of calls.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/fuzz/call_script.h"
#include "server/fuzz/request_mutator.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned int seed) {
  using namespace tdp::server;
  CallScript script =
      ParseScript(absl::string_view(reinterpret_cast<const char*>(data), size))
          .value_or(CallScript());
  RequestMutator mutator(seed);
  mutator.Mutate(script);
  while (true) {
    const std::string text = PrintScript(script);
    if (text.size() <= max_size) {
      std::memcpy(data, text.data(), text.size());
      return text.size();
    }
    script.pop_back();
  }
}
