// tdpctl vcpu get|list|wait.

#include <string>

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/event_text.h"
#include "client/lib/names.h"
#include "client/lib/table.h"
#include "client/lib/words.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct VcpuArgs {
  std::string vm;
  std::string vcpu;
};

std::string StateText(const v1::Vcpu& vcpu) {
  return EnumText(v1::Vcpu::State_Name(vcpu.state()), "STATE_");
}

Table VcpuTable() {
  return Table({{"NAME"},
                {"STATE"},
                {"EXIT"},
                {"IP", Align::kRight},
                {"TOUCHED", Align::kRight},
                {"WAITS-FOR"}});
}

void AddVcpuRow(const v1::Vcpu& vcpu, Table& table) {
  table.AddRow({vcpu.name(), StateText(vcpu), vcpu.exit_reason(),
                FormatHex(vcpu.instruction_pointer()),
                absl::StrCat(vcpu.touched_frame_count()),
                vcpu.has_waiting_access()
                    ? WaitingAccessText(vcpu.waiting_access())
                    : ""});
}

// The table, and below it what the guest wrote to its console.
void PrintVcpu(const v1::Vcpu& vcpu, std::ostream& out) {
  Table table = VcpuTable();
  AddVcpuRow(vcpu, table);
  table.Flush(out);
  if (vcpu.console().empty()) return;
  out << "\n" << vcpu.console();
  if (vcpu.console().back() != '\n') out << "\n";
}

absl::Status RunGet(Session& session, const VcpuArgs& args) {
  v1::GetVcpuRequest request;
  request.set_name(VcpuName(args.vm, args.vcpu));
  const auto response = session.client().GetVcpu(request);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    PrintVcpu(response->vcpu(), session.out());
  }
  return absl::OkStatus();
}

absl::Status RunWait(Session& session, const VcpuArgs& args) {
  v1::WaitVcpuRequest request;
  request.set_name(VcpuName(args.vm, args.vcpu));
  const auto response = session.client().WaitVcpu(request);
  if (!response.ok()) return response.status();
  const v1::Vcpu& vcpu = response->vcpu();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    PrintVcpu(vcpu, session.out());
  }
  const bool left_guest = vcpu.state() == v1::Vcpu::STATE_EXITED ||
                          vcpu.state() == v1::Vcpu::STATE_IDLE;
  if (!left_guest) {
    session.Fail(absl::StrCat(vcpu.name(), " is still ", StateText(vcpu),
                              "; give it longer with --timeout"));
  }
  return absl::OkStatus();
}

absl::Status RunList(Session& session, const VcpuArgs& args) {
  const auto response = session.client().ListVcpus(args.vm);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
    return absl::OkStatus();
  }
  Table table = VcpuTable();
  for (const v1::Vcpu& vcpu : response->vcpus()) AddVcpuRow(vcpu, table);
  table.Flush(session.out());
  return absl::OkStatus();
}

void AddNamed(CommandSet& commands, CommandSet::Group group,
              const std::string& name, const std::string& description,
              absl::Status (*run)(Session&, const VcpuArgs&)) {
  auto command = commands.Add(group, name, description, run);
  VcpuArgs* args = command.args.get();
  command.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  command.parameters.AddText({.name = "INDEX",
                              .description = "Index of the vCPU",
                              .presence = Presence::kRequired},
                             [=](const std::string& id) { args->vcpu = id; });
}

}  // namespace

void AddVcpuCommands(CommandSet& commands) {
  const CommandSet::Group group =
      commands.AddGroup("vcpu", "Show and wait for vCPUs");
  AddNamed(commands, group, "get", "Show one vCPU and its console", RunGet);
  auto list = commands.Add(group, "list", "Show every vCPU of a VM", RunList);
  VcpuArgs* args = list.args.get();
  list.parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  AddNamed(commands, group, "wait", "Wait until a vCPU has left the guest",
           RunWait);
}

}  // namespace tdp::client
