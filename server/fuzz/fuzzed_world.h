// FuzzedWorld: an engine with a few small VMs, against which scripts of calls
// run. Each script finds it as new.
//
// There are the VMs "a", with the memslots "ram", "waits" and "fixed", the
// dirty consumer "extra" and something mapped, and "b", which is empty.
//
// Thread safety: belongs to one thread.

#ifndef SERVER_FUZZ_FUZZED_WORLD_H_
#define SERVER_FUZZ_FUZZED_WORLD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/fuzz/answer_check.h"
#include "server/fuzz/call_script.h"

namespace tdp::server {

class FuzzedWorld {
 public:
  struct Options {
    // Make a registry for each script that changes something, not just VMs.
    bool renew_registry = false;
    // A script ends where it has a larger memslot.
    int64_t max_memslot_frames = 0;
  };

  explicit FuzzedWorld(const Options& options);

  // Ends the process where an answer is wrong (answer_check.h) or an error has
  // left something behind.
  void Run(const CallScript& script);

 private:
  // False if the script cannot go on.
  bool RunCall(Handlers& handlers, const ScriptedCall& call,
               KnownNumbers& known);
  void Renew();
  void Populate();
  // What exists, without what changes by itself.
  std::string Describe() const;
  bool IsTooLarge() const;

  const Options options_;
  Executor executor_;
  std::unique_ptr<VmRegistry> registry_;
  bool changed_ = false;
};

// What LLVMFuzzerTestOneInput() does.
int RunScriptText(FuzzedWorld& world, const uint8_t* data, size_t size);

}  // namespace tdp::server

#endif  // SERVER_FUZZ_FUZZED_WORLD_H_
