// Every method of every service, through its handler, on a fake engine: what a
// request can do before the engine sees it. An input is a call_script.h.

#include <cstddef>
#include <cstdint>

#include "server/fuzz/fuzzed_world.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& world = *new tdp::server::FuzzedWorld(
      {.renew_registry = true, .max_memslot_frames = 1 << 16});
  return tdp::server::RunScriptText(world, data, size);
}
