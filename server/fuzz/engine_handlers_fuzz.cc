// Every method of every service, through its handler, on VMs of the software
// hypervisor. An input is a call_script.h.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "server/fuzz/fuzzed_world.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& world = *new tdp::server::FuzzedWorld(
      {.max_memslot_frames = std::numeric_limits<int64_t>::max()});
  return tdp::server::RunScriptText(world, data, size);
}
