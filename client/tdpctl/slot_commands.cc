// tdpctl slot create|get|list|update|delete.

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/lib/address.h"
#include "client/lib/names.h"
#include "client/lib/page_level.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct SlotArgs {
  std::string vm;
  std::string slot;
};

struct UpdateArgs {
  std::string vm;
  std::string slot;
  v1::UpdateMemslotRequest request;  // without the name
};

Table SlotTable() {
  return Table({{"NAME"},
                {"ADDRESSES"},
                {"SIZE", Align::kRight},
                {"HOST-PAGE"},
                {"FAULTS"},
                {"AROUND", Align::kRight},
                {"FLAGS"},
                {"SOURCE"}});
}

// "dirty-log", and how writes are noticed.
std::string DirtyLogText(const v1::Memslot& slot) {
  switch (slot.dirty_mode()) {
    case v1::DIRTY_MODE_WRITE_PROTECT:
      return "dirty-log:write-protect";
    case v1::DIRTY_MODE_HARVEST:
      return "dirty-log:harvest";
    default:
      return "dirty-log";
  }
}

std::string FlagsText(const v1::Memslot& slot) {
  std::vector<std::string> flags;
  if (slot.read_only()) flags.push_back("read-only");
  if (slot.dirty_log_enabled()) flags.push_back(DirtyLogText(slot));
  if (slot.dirty_log_initially_set()) flags.push_back("dirty-initially-set");
  return absl::StrJoin(flags, ",");
}

std::string SourceText(const v1::Memslot& slot) {
  if (!slot.has_source()) return "";
  return absl::StrCat(slot.source().path(), "@",
                      FormatHex(slot.source().offset_bytes()));
}

void AddSlotRow(const v1::Memslot& slot, Table& table) {
  const uint64_t frames = slot.frame_count();
  const std::string policy =
      EnumText(v1::FaultPolicy_Name(slot.fault_policy()), "FAULT_POLICY_");
  table.AddRow({slot.name(),
                FormatFrameRange({slot.base_gfn(), slot.base_gfn() + frames}),
                FormatSize(frames << kFrameShift),
                LevelText(slot.host_page_level()),
                absl::AsciiStrToLower(policy),
                absl::StrCat(slot.map_around_frame_count()), FlagsText(slot),
                SourceText(slot)});
}

// Prints a response that holds one memslot.
template <typename Response>
absl::Status PrintSlot(Session& session,
                       const absl::StatusOr<Response>& response) {
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  Table table = SlotTable();
  AddSlotRow(response->memslot(), table);
  table.Flush(session.out());
  return absl::OkStatus();
}

absl::Status RunCreate(Session& session,
                       const v1::CreateMemslotRequest& request) {
  return PrintSlot(session, session.client().CreateMemslot(request));
}

absl::Status RunGet(Session& session, const SlotArgs& args) {
  v1::GetMemslotRequest request;
  request.set_name(MemslotName(args.vm, args.slot));
  return PrintSlot(session, session.client().GetMemslot(request));
}

absl::Status RunList(Session& session, const SlotArgs& args) {
  const auto response = session.client().ListMemslots(args.vm);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  Table table = SlotTable();
  for (const v1::Memslot& slot : response->memslots()) AddSlotRow(slot, table);
  table.Flush(session.out());
  return absl::OkStatus();
}

absl::Status RunUpdate(Session& session, const UpdateArgs& args) {
  if (args.request.update_mask().paths().empty()) {
    session.UsageError(
        "nothing to update; \"tdpctl slot update --help\" shows what can be");
    return absl::OkStatus();
  }
  v1::UpdateMemslotRequest request = args.request;
  request.mutable_memslot()->set_name(MemslotName(args.vm, args.slot));
  return PrintSlot(session, session.client().UpdateMemslot(request));
}

absl::Status RunDelete(Session& session, const SlotArgs& args) {
  v1::DeleteMemslotRequest request;
  request.set_name(MemslotName(args.vm, args.slot));
  const auto response = session.client().DeleteMemslot(request);
  return session.PrintDeleted(response, request.name());
}

void AddSource(Parameters& parameters, v1::Memslot* slot) {
  parameters.AddText(
      {.name = "--source",
       .description =
           "File below the daemon's image directory with the initial content"},
      [=](const std::string& path) { slot->mutable_source()->set_path(path); });
  parameters.Add({.name = "--offset",
                  .description = "Byte offset of the first frame in the file",
                  .needs = "--source"},
                 ParseSize, [=](int64_t bytes) {
                   slot->mutable_source()->set_offset_bytes(bytes);
                 });
}

void AddFaultPolicy(Parameters& parameters,
                    std::function<void(v1::FaultPolicy)> set) {
  parameters.AddChoice<v1::FaultPolicy>(
      {.name = "--fault-policy",
       .description = "How a guest touch of an unmapped frame is answered"},
      {{"map", v1::FAULT_POLICY_MAP}, {"wait", v1::FAULT_POLICY_WAIT}}, set);
}

void AddMapAround(Parameters& parameters, std::function<void(int32_t)> set) {
  parameters.Add({.name = "--map-around",
                  .description = "Frames that a guest fault maps about it"},
                 ParseInteger<int32_t>, set);
}

void AddCreate(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] =
      commands.Add(group, "create", "Add a memslot", RunCreate);
  v1::CreateMemslotRequest* request = args.get();
  v1::Memslot* slot = request->mutable_memslot();
  parameters.AddVm([=](const std::string& vm) { request->set_parent(vm); });
  parameters.AddText(
      {.name = "SLOT",
       .description = "Name of the new memslot",
       .presence = Presence::kRequired},
      [=](const std::string& id) { request->set_memslot_id(id); });
  parameters.Add({.name = "--base",
                  .description = "First address",
                  .presence = Presence::kRequired},
                 ParseAlignedFrame,
                 [=](uint64_t gfn) { slot->set_base_gfn(gfn); });
  parameters.Add({.name = "--size",
                  .description = "Size",
                  .presence = Presence::kRequired},
                 ParseFrameCount,
                 [=](int64_t frames) { slot->set_frame_count(frames); });
  parameters.AddFlag(
      {.name = "--read-only",
       .description = "Guest writes wait until the memslot is writable"},
      [=] { slot->set_read_only(true); });
  AddSource(parameters, slot);
  AddFaultPolicy(parameters, [=](v1::FaultPolicy policy) {
    slot->set_fault_policy(policy);
  });
  parameters.AddFlag(
      {.name = "--dirty-log",
       .description = "Record the guest's writes from the start"},
      [=] { slot->set_dirty_log_enabled(true); });
  parameters.AddFlag({.name = "--dirty-initially-set",
                      .description = "Report every frame as dirty once when "
                                     "the dirty log is switched on"},
                     [=] { slot->set_dirty_log_initially_set(true); });
  parameters.AddChoice<v1::DirtyMode>(
      {.name = "--dirty-mode",
       .description = "How the dirty log notices writes; the daemon chooses "
                      "unless given"},
      {{"write-protect", v1::DIRTY_MODE_WRITE_PROTECT},
       {"harvest", v1::DIRTY_MODE_HARVEST}},
      [=](v1::DirtyMode mode) { slot->set_dirty_mode(mode); });
  parameters.AddChoice<v1::PageLevel>(
      {.name = "--host-page",
       .description = "Size of the host pages that hold the memory"},
      LevelChoices(v1::PAGE_LEVEL_4K, v1::PAGE_LEVEL_2M),
      [=](v1::PageLevel level) { slot->set_host_page_level(level); });
  AddMapAround(parameters, [=](int32_t frames) {
    slot->set_map_around_frame_count(frames);
  });
}

template <typename Args>
void AddVmAndSlot(Parameters& parameters, Args* args) {
  parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  parameters.AddText({.name = "SLOT",
                      .description = "Name of the memslot",
                      .presence = Presence::kRequired},
                     [=](const std::string& id) { args->slot = id; });
}

void AddNamed(CommandSet& commands, CommandSet::Group group,
              const std::string& name, const std::string& description,
              absl::Status (*run)(Session&, const SlotArgs&)) {
  auto command = commands.Add(group, name, description, run);
  AddVmAndSlot(command.parameters, command.args.get());
}

void AddUpdate(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] = commands.Add(
      group, "update", "Change or move a memslot; what is not given stays",
      RunUpdate);
  AddVmAndSlot(parameters, args.get());
  v1::UpdateMemslotRequest* request = &args->request;
  v1::Memslot* slot = request->mutable_memslot();
  const auto name_field = [=](const char* field) {
    request->mutable_update_mask()->add_paths(field);
  };
  parameters.Add({.name = "--base", .description = "New first address"},
                 ParseAlignedFrame, [=](uint64_t gfn) {
                   name_field("base_gfn");
                   slot->set_base_gfn(gfn);
                 });
  const auto add_switch = [&](const char* name, const char* description,
                              const char* field,
                              void (v1::Memslot::*set)(bool)) {
    parameters.AddChoice<bool>({.name = name, .description = description},
                               {{"on", true}, {"off", false}}, [=](bool on) {
                                 name_field(field);
                                 (slot->*set)(on);
                               });
  };
  add_switch("--read-only", "Guest writes wait until this is off", "read_only",
             &v1::Memslot::set_read_only);
  add_switch("--dirty-log", "Record the guest's writes", "dirty_log_enabled",
             &v1::Memslot::set_dirty_log_enabled);
  add_switch("--dirty-initially-set",
             "Report every frame as dirty once when the dirty log is switched "
             "on",
             "dirty_log_initially_set",
             &v1::Memslot::set_dirty_log_initially_set);
  AddFaultPolicy(parameters, [=](v1::FaultPolicy policy) {
    name_field("fault_policy");
    slot->set_fault_policy(policy);
  });
  AddMapAround(parameters, [=](int32_t frames) {
    name_field("map_around_frame_count");
    slot->set_map_around_frame_count(frames);
  });
  parameters.AddText(
      {.name = "--etag",
       .description = "Fail unless this is the etag of the memslot"},
      [=](const std::string& etag) { slot->set_etag(etag); });
}

}  // namespace

void AddSlotCommands(CommandSet& commands) {
  const CommandSet::Group group = commands.AddGroup(
      "slot", "Add, show, change and remove the memslots of a VM");
  AddCreate(commands, group);
  AddNamed(commands, group, "get", "Show one memslot", RunGet);
  auto list =
      commands.Add(group, "list", "Show every memslot of a VM", RunList);
  SlotArgs* args = list.args.get();
  list.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  AddUpdate(commands, group);
  AddNamed(commands, group, "delete", "Zap and remove a memslot", RunDelete);
}

}  // namespace tdp::client
