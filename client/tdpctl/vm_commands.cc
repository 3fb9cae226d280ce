// tdpctl vm create|get|list|update|delete|start|pause|resume|stop.

#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/lib/address.h"
#include "client/lib/call_error.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/util/time_util.h"

namespace tdp::client {
namespace {

using Label = std::pair<std::string, std::string>;

absl::StatusOr<Label> ParseLabel(absl::string_view text) {
  const Label label = absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (label.first.empty() || !absl::StrContains(text, "=")) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no label; write KEY=VALUE"));
  }
  return label;
}

std::string LabelsText(const v1::Vm& vm) {
  const std::map<std::string, std::string> sorted(vm.labels().begin(),
                                                  vm.labels().end());
  return absl::StrJoin(sorted, ",", absl::PairFormatter("="));
}

Table VmTable() {
  return Table({{"NAME"},
                {"STATE"},
                {"HYPERVISOR"},
                {"VCPUS", Align::kRight},
                {"LEVELS", Align::kRight},
                {"TABLE-LIMIT", Align::kRight},
                {"LABELS"},
                {"CREATED"}});
}

void AddVmRow(const v1::Vm& vm, Table& table) {
  table.AddRow({vm.name(), EnumText(v1::Vm::State_Name(vm.state()), "STATE_"),
                absl::AsciiStrToLower(EnumText(
                    v1::Vm::Hypervisor_Name(vm.hypervisor()), "HYPERVISOR_")),
                absl::StrCat(vm.vcpu_count()), absl::StrCat(vm.root_level()),
                FormatSize(vm.page_table_limit_bytes()), LabelsText(vm),
                google::protobuf::util::TimeUtil::ToString(vm.create_time())});
}

// Prints a response that holds one VM.
template <typename Response>
absl::Status PrintVm(Session& session,
                     const absl::StatusOr<Response>& response) {
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  Table table = VmTable();
  AddVmRow(response->vm(), table);
  table.Flush(session.out());
  return absl::OkStatus();
}

absl::Status RunCreate(Session& session, const v1::CreateVmRequest& request) {
  return PrintVm(session, session.client().CreateVm(request));
}

absl::Status RunGet(Session& session, const v1::GetVmRequest& request) {
  return PrintVm(session, session.client().GetVm(request));
}

absl::Status RunUpdate(Session& session, const v1::UpdateVmRequest& request) {
  return PrintVm(session, session.client().UpdateVm(request));
}

absl::Status RunStart(Session& session, const v1::StartVmRequest& request) {
  return PrintVm(session, session.client().StartVm(request));
}

absl::Status RunPause(Session& session, const v1::PauseVmRequest& request) {
  return PrintVm(session, session.client().PauseVm(request));
}

absl::Status RunResume(Session& session, const v1::ResumeVmRequest& request) {
  return PrintVm(session, session.client().ResumeVm(request));
}

absl::Status RunStop(Session& session, const v1::StopVmRequest& request) {
  return PrintVm(session, session.client().StopVm(request));
}

absl::Status RunList(Session& session, const v1::ListVmsRequest&) {
  const bool fleet = session.is_fleet();
  for (const Session::Daemon& daemon : session.daemons()) {
    const auto response = daemon.client->ListVms();
    if (!response.ok()) {
      if (!fleet) return response.status();
      session.Fail(
          absl::StrCat(daemon.address, ": ", ErrorText(response.status())));
      continue;
    }
    if (session.json()) {
      session.PrintJson(daemon, *response);
      continue;
    }
    if (fleet) session.out() << daemon.address << "\n";
    Table table = VmTable();
    for (const v1::Vm& vm : response->vms()) AddVmRow(vm, table);
    table.Flush(session.out());
  }
  return absl::OkStatus();
}

absl::Status RunDelete(Session& session, const v1::DeleteVmRequest& request) {
  const auto response = session.client().DeleteVm(request);
  return session.PrintDeleted(response, request.name());
}

void AddLabel(Parameters& parameters, const std::string& description,
              v1::Vm* vm) {
  parameters.Add(
      {.name = "--label", .description = description, .repeated = true},
      ParseLabel, [=](const Label& label) {
        (*vm->mutable_labels())[label.first] = label.second;
      });
}

void AddCreate(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] =
      commands.Add(group, "create", "Create a VM", RunCreate);
  v1::CreateVmRequest* request = args.get();
  v1::Vm* vm = request->mutable_vm();
  vm->set_vcpu_count(1);
  parameters.AddText({.name = "VM",
                      .description = "Name of the new VM",
                      .presence = Presence::kRequired},
                     [=](const std::string& id) { request->set_vm_id(id); });
  parameters.Add({.name = "--vcpus",
                  .description = "Number of vCPUs",
                  .shown_default = "1"},
                 ParseInteger<int32_t>,
                 [=](int32_t count) { vm->set_vcpu_count(count); });
  parameters.AddChoice<v1::Vm::Hypervisor>(
      {.name = "--hypervisor",
       .description = "What runs the guest; KVM where it works, else software"},
      {{"kvm", v1::Vm::HYPERVISOR_KVM},
       {"software", v1::Vm::HYPERVISOR_SOFTWARE}},
      [=](v1::Vm::Hypervisor kind) { vm->set_hypervisor(kind); });
  parameters.Add({.name = "--root-level",
                  .description = "Depth of the page tables: 4 or 5",
                  .shown_default = "4"},
                 ParseInteger<int32_t>,
                 [=](int32_t level) { vm->set_root_level(level); });
  parameters.Add({.name = "--table-limit",
                  .description = "Upper bound for page-table memory"},
                 ParseSize,
                 [=](int64_t bytes) { vm->set_page_table_limit_bytes(bytes); });
  AddLabel(parameters, "KEY=VALUE; may be given several times", vm);
}

void AddUpdate(CommandSet& commands, CommandSet::Group group) {
  auto [parameters, args] =
      commands.Add(group, "update", "Replace the labels of a VM", RunUpdate);
  v1::UpdateVmRequest* request = args.get();
  v1::Vm* vm = request->mutable_vm();
  request->mutable_update_mask()->add_paths("labels");
  parameters.AddVm([=](const std::string& name) { vm->set_name(name); });
  Parameters labels = parameters.AddAlternatives("labels", Presence::kRequired);
  AddLabel(labels,
           "KEY=VALUE; may be given several times, and replaces every label",
           vm);
  labels.AddFlag({.name = "--no-labels", .description = "Remove every label"},
                 [] {});
  parameters.AddText({.name = "--etag",
                      .description = "Fail unless this is the etag of the VM"},
                     [=](const std::string& etag) { vm->set_etag(etag); });
}

// Adds a command that takes nothing but the name of a VM.
template <typename Request>
void AddNamed(CommandSet& commands, CommandSet::Group group,
              const std::string& name, const std::string& description,
              absl::Status (*run)(Session&, const Request&)) {
  auto [parameters, args] = commands.Add(group, name, description, run);
  Request* request = args.get();
  parameters.AddVm([=](const std::string& vm) { request->set_name(vm); });
}

}  // namespace

void AddVmCommands(CommandSet& commands) {
  const CommandSet::Group group =
      commands.AddGroup("vm", "Create, run, pause and delete VMs");
  AddCreate(commands, group);
  AddNamed(commands, group, "get", "Show one VM", RunGet);
  commands.Add(group, "list", "Show every VM", RunList, Reach::kFleet);
  AddUpdate(commands, group);
  AddNamed(commands, group, "delete", "Delete a VM that does not run",
           RunDelete);
  AddNamed(commands, group, "start", "Let the vCPUs run", RunStart);
  AddNamed(commands, group, "pause", "Park the vCPUs", RunPause);
  AddNamed(commands, group, "resume", "Let parked vCPUs run again", RunResume);
  AddNamed(commands, group, "stop", "Stop the vCPUs", RunStop);
}

}  // namespace tdp::client
