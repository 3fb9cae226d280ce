#include "server/fuzz/fuzzed_world.h"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"

namespace tdp::server {
namespace {

// Files that every Debian has.
constexpr char kImageDir[] = "/usr/share/common-licenses";
// How long a call may wait for something to happen.
constexpr absl::Duration kPatience = absl::Milliseconds(3);

void RequireOk(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "what scripts run against: %s\n",
               status.ToString().c_str());
  std::abort();
}

bool IsRefused(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status);
}

}  // namespace

FuzzedWorld::FuzzedWorld(const Options& options)
    : options_(options), executor_({.thread_count = 2}) {
  Renew();
}

void FuzzedWorld::Renew() {
  if (options_.renew_registry) registry_.reset();
  if (registry_ == nullptr) {
    auto registry = VmRegistry::Create(
        {.hypervisor = HypervisorKind::kSoftware, .image_dir = kImageDir});
    RequireOk(registry.status());
    registry_ = *std::move(registry);
  }
  for (const VmInfo& info : registry_->ListVms()) {
    (*registry_->FindVm(info.id))->Stop().IgnoreError();
    RequireOk(registry_->DeleteVm(info.id, ""));
  }
  Populate();
  changed_ = false;
}

void FuzzedWorld::Populate() {
  RequireOk(registry_->CreateVm("a", {.vcpu_count = 2}, false).status());
  RequireOk(registry_
                ->CreateVm("b", {.vcpu_count = 1, .root_level = 5},
                           /*validate_only=*/false)
                .status());
  const std::shared_ptr<Vm> vm = *registry_->FindVm("a");
  const auto add = [&](absl::string_view id, const MemslotConfig& config) {
    RequireOk(vm->CreateMemslot(id, config, /*validate_only=*/false).status());
  };
  add("ram", {.base_gfn = Gfn(0),
              .frame_count = 1024,
              .dirty_log_enabled = true,
              .dirty_mode = DirtyMode::kWriteProtect});
  add("waits", {.base_gfn = Gfn(4096),
                .frame_count = 512,
                .fault_policy = FaultPolicy::kWait});
  add("fixed", {.base_gfn = Gfn(8192),
                .frame_count = 256,
                .read_only = true,
                .dirty_mode = DirtyMode::kWriteProtect});
  RequireOk(vm->CreateDirtyConsumer("extra"));
  RequireOk(vm->MapRange({Gfn(0), Gfn(100)}, 0, /*write=*/true, {}).status());
}

std::string FuzzedWorld::Describe() const {
  std::string text;
  for (const VmInfo& vm : registry_->ListVms()) {
    absl::StrAppend(&text, vm.id, "(", vm.config.vcpu_count);
    for (const auto& [key, value] : vm.config.labels) {
      absl::StrAppend(&text, " ", key, "=", value);
    }
    const auto found = registry_->FindVm(vm.id);
    RequireOk(found.status());
    for (const MemslotInfo& slot : (*found)->ListMemslots()) {
      absl::StrAppend(&text, " ", slot.id, "@", slot.config.base_gfn.value(),
                      "+", slot.config.frame_count, "#", slot.etag);
    }
    for (const std::string& consumer : (*found)->ListDirtyConsumers()) {
      absl::StrAppend(&text, " ", consumer);
    }
    absl::StrAppend(&text, ")");
  }
  return text;
}

bool FuzzedWorld::IsTooLarge() const {
  for (const VmInfo& info : registry_->ListVms()) {
    const auto vm = registry_->FindVm(info.id);
    RequireOk(vm.status());
    for (const MemslotInfo& slot : (*vm)->ListMemslots()) {
      if (slot.config.frame_count > options_.max_memslot_frames) return true;
    }
  }
  return false;
}

bool FuzzedWorld::RunCall(Handlers& handlers, const ScriptedCall& call,
                          KnownNumbers& known) {
  const FuzzedMethod& method = *call.method;
  Messages requests;
  for (const std::string& bytes : call.messages) {
    requests.emplace_back(method.request->New());
    // The transport refuses what is no message.
    if (!requests.back()->ParseFromString(bytes)) return true;
    AddNumbersOf(*requests.back(), known);
  }
  const std::string before = Describe();
  CallContext context;
  context.set_start_time(absl::Now());
  context.set_deadline(context.start_time() + kPatience);
  const Answer answer = method.call(handlers, context, requests);
  CheckAnswer(method, answer, known);
  if (!answer.status.ok()) {
    const std::string after = Describe();
    if (after != before) {
      std::fprintf(stderr, "%s failed with %s and changed\n%s\nto\n%s\n",
                   method.name.c_str(), answer.status.ToString().c_str(),
                   before.c_str(), after.c_str());
      std::abort();
    }
  }
  if (!method.changes) return true;
  if (method.takes_many || !IsRefused(answer.status)) changed_ = true;
  return !IsTooLarge();
}

void FuzzedWorld::Run(const CallScript& script) {
  {
    Handlers handlers(*registry_, executor_);
    // A limit that errors name.
    KnownNumbers known = {FramesOfRoot(kMaxRootLevel)};
    for (const ScriptedCall& call : script) {
      if (!RunCall(handlers, call, known)) break;
    }
  }
  if (changed_) Renew();
}

int RunScriptText(FuzzedWorld& world, const uint8_t* data, size_t size) {
  const std::optional<CallScript> script =
      ParseScript(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!script.has_value()) return -1;  // nothing to learn from it
  world.Run(*script);
  return 0;
}

}  // namespace tdp::server
