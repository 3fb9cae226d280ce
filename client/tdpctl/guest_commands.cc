// tdpctl guest touch|code|elf.

#include <fstream>
#include <iterator>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/hex_dump.h"
#include "client/lib/names.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct GuestArgs {
  std::string vm;
  std::string vcpu = "0";
  v1::Guest guest;
};

absl::StatusOr<std::string> ReadCode(absl::string_view path) {
  std::ifstream file(std::string(path), std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file || bytes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read \"", path, "\", or it is empty"));
  }
  return bytes;
}

absl::Status RunLoad(Session& session, const GuestArgs& args) {
  v1::LoadGuestRequest request;
  request.set_name(VcpuName(args.vm, args.vcpu));
  *request.mutable_guest() = args.guest;
  const auto response = session.client().LoadGuest(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "loaded; it runs from the next start of "
                  << VmName(args.vm) << "\n";
  }
  return absl::OkStatus();
}

Command<GuestArgs> AddGuest(CommandSet& commands, CommandSet::Group group,
                            const std::string& name,
                            const std::string& description) {
  auto command = commands.Add(group, name, description, RunLoad);
  GuestArgs* args = command.args.get();
  command.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  command.parameters.AddText(
      {.name = "--vcpu",
       .description = "Index of the vCPU that runs it, or \"all\"",
       .shown_default = "0"},
      [=](const std::string& id) { args->vcpu = id; });
  return command;
}

void AddTouch(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] =
      AddGuest(commands, group, "touch",
               "Touch the frames of a range, one byte each, then halt");
  v1::TouchGuest* touch = args->guest.mutable_touch();
  parameters.Add({.name = "--range",
                  .description = "Frames to touch",
                  .presence = Presence::kRequired},
                 ParseFrameRange, [=](FrameRange range) {
                   touch->mutable_range()->set_start_gfn(range.start_gfn);
                   touch->mutable_range()->set_end_gfn(range.end_gfn);
                 });
  parameters.AddFlag(
      {.name = "--write", .description = "Write instead of read"},
      [=] { touch->set_write(true); });
  parameters.AddChoice<v1::TouchGuest::Pattern>(
      {.name = "--pattern", .description = "Order of the touches"},
      {{"sequential", v1::TouchGuest::PATTERN_SEQUENTIAL},
       {"shuffled", v1::TouchGuest::PATTERN_SHUFFLED},
       {"uniform", v1::TouchGuest::PATTERN_UNIFORM},
       {"hot-tenth", v1::TouchGuest::PATTERN_HOT_TENTH}},
      [=](v1::TouchGuest::Pattern pattern) { touch->set_pattern(pattern); });
  parameters.Add(
      {.name = "--passes",
       .description = "Passes over the range; -1: until the VM is stopped",
       .shown_default = "1"},
      ParseInteger<int64_t>,
      [=](int64_t count) { touch->set_pass_count(count); });
  parameters.Add(
      {.name = "--seed", .description = "Seed of the random patterns"},
      ParseInteger<uint64_t>, [=](uint64_t seed) { touch->set_seed(seed); });
}

void AddCode(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] = AddGuest(
      commands, group, "code", "Run machine code from its first byte; on KVM");
  v1::CodeGuest* code = args->guest.mutable_code();
  const auto set_code = [=](const std::string& bytes) {
    code->set_code(bytes);
  };
  Parameters source = parameters.AddAlternatives("Code", Presence::kRequired);
  source.Add({.name = "--file", .description = "File with the code"}, ReadCode,
             set_code);
  source.Add({.name = "--hex", .description = "The code in hexadecimal digits"},
             ParseHexBytes, set_code);
  parameters.Add({.name = "--entry",
                  .description = "Address where the code is put and entered",
                  .presence = Presence::kRequired},
                 ParseNumber, [=](uint64_t gpa) { code->set_entry_gpa(gpa); });
  parameters.AddChoice<v1::CodeGuest::Mode>(
      {.name = "--mode",
       .description = "How the vCPU starts; long unless given"},
      {{"real", v1::CodeGuest::MODE_REAL}, {"long", v1::CodeGuest::MODE_LONG}},
      [=](v1::CodeGuest::Mode mode) { code->set_mode(mode); });
}

void AddElf(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] =
      AddGuest(commands, group, "elf", "Run a static ELF64 program; on KVM");
  v1::ElfGuest* elf = args->guest.mutable_elf();
  parameters.AddText({.name = "--path",
                      .description = "Path below the daemon's image directory",
                      .presence = Presence::kRequired},
                     [=](const std::string& path) { elf->set_path(path); });
}

}  // namespace

void AddGuestCommands(CommandSet& commands) {
  const CommandSet::Group group =
      commands.AddGroup("guest", "Choose what a vCPU runs at the next start");
  AddTouch(commands, group);
  AddCode(commands, group);
  AddElf(commands, group);
}

}  // namespace tdp::client
