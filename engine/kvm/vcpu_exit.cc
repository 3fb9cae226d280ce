#include "engine/kvm/vcpu_exit.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tdp {
namespace {

// Newer than Debian 12's header (Linux 6.8).
constexpr uint32_t kExitMemoryFault = 39;
// Where that exit's fields lie: flags, gpa, size, as in linux/kvm.h of 6.8.
struct RawMemoryFault {
  uint64_t flags;
  uint64_t gpa;
  uint64_t size;
};
static_assert(sizeof(RawMemoryFault) <= sizeof(kvm_run::padding));

struct ReasonName {
  uint32_t reason;
  absl::string_view name;
};

constexpr ReasonName kReasonNames[] = {
    {KVM_EXIT_UNKNOWN, "UNKNOWN"},
    {KVM_EXIT_EXCEPTION, "EXCEPTION"},
    {KVM_EXIT_IO, "IO"},
    {KVM_EXIT_HYPERCALL, "HYPERCALL"},
    {KVM_EXIT_DEBUG, "DEBUG"},
    {KVM_EXIT_HLT, "HLT"},
    {KVM_EXIT_MMIO, "MMIO"},
    {KVM_EXIT_IRQ_WINDOW_OPEN, "IRQ_WINDOW_OPEN"},
    {KVM_EXIT_SHUTDOWN, "SHUTDOWN"},
    {KVM_EXIT_FAIL_ENTRY, "FAIL_ENTRY"},
    {KVM_EXIT_INTR, "INTR"},
    {KVM_EXIT_SET_TPR, "SET_TPR"},
    {KVM_EXIT_TPR_ACCESS, "TPR_ACCESS"},
    {KVM_EXIT_NMI, "NMI"},
    {KVM_EXIT_INTERNAL_ERROR, "INTERNAL_ERROR"},
    {KVM_EXIT_WATCHDOG, "WATCHDOG"},
    {KVM_EXIT_SYSTEM_EVENT, "SYSTEM_EVENT"},
    {KVM_EXIT_IOAPIC_EOI, "IOAPIC_EOI"},
    {KVM_EXIT_HYPERV, "HYPERV"},
    {KVM_EXIT_X86_RDMSR, "X86_RDMSR"},
    {KVM_EXIT_X86_WRMSR, "X86_WRMSR"},
    {KVM_EXIT_DIRTY_RING_FULL, "DIRTY_RING_FULL"},
    {KVM_EXIT_AP_RESET_HOLD, "AP_RESET_HOLD"},
    {KVM_EXIT_X86_BUS_LOCK, "X86_BUS_LOCK"},
    {KVM_EXIT_XEN, "XEN"},
    {KVM_EXIT_NOTIFY, "NOTIFY"},
    {kExitMemoryFault, "MEMORY_FAULT"},
};

std::string ReasonNameOf(uint32_t reason) {
  for (const ReasonName& row : kReasonNames) {
    if (row.reason == reason) return std::string(row.name);
  }
  return absl::StrCat("EXIT_", reason);
}

std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : absl::StrCat("ERRNO_", error);
}

VcpuExit DecodeFailure(const kvm_run& run, int error) {
  VcpuExit exit;
  exit.error = error;
  exit.raw_reason = run.exit_reason;
  exit.name = ErrnoName(error);
  if (error == EINTR || error == EAGAIN) {
    exit.kind = VcpuExit::Kind::kInterrupted;
  } else if ((error == EFAULT || error == EHWPOISON) &&
             run.exit_reason == kExitMemoryFault) {
    RawMemoryFault fault;
    memcpy(&fault, run.padding, sizeof fault);
    exit.kind = VcpuExit::Kind::kMemoryFault;
    exit.memory_fault = {Gpa(fault.gpa), fault.size};
    exit.name = ReasonNameOf(kExitMemoryFault);
  } else if (error == EFAULT) {
    exit.kind = VcpuExit::Kind::kFault;
  } else {
    exit.kind = VcpuExit::Kind::kRunFailed;
  }
  return exit;
}

VcpuExit::Io DecodeIo(kvm_run* run, size_t run_size) {
  VcpuExit::Io io;
  io.port = run->io.port;
  io.size = run->io.size;
  io.count = run->io.count;
  io.is_write = run->io.direction == KVM_EXIT_IO_OUT;
  const uint64_t offset = run->io.data_offset;
  const uint64_t bytes = uint64_t{io.size} * io.count;
  if (offset <= run_size && bytes <= run_size - offset) {
    io.data = absl::MakeSpan(reinterpret_cast<uint8_t*>(run) + offset, bytes);
  }
  return io;
}

VcpuExit::Mmio DecodeMmio(const kvm_run& run) {
  VcpuExit::Mmio mmio;
  mmio.gpa = Gpa(run.mmio.phys_addr);
  mmio.size = run.mmio.len;
  mmio.is_write = run.mmio.is_write != 0;
  memcpy(mmio.data.data(), run.mmio.data, mmio.data.size());
  return mmio;
}

}  // namespace

VcpuExit DecodeVcpuExit(kvm_run* run, size_t run_size, int result) {
  if (result < 0) return DecodeFailure(*run, -result);
  VcpuExit exit;
  exit.raw_reason = run->exit_reason;
  exit.name = ReasonNameOf(run->exit_reason);
  switch (run->exit_reason) {
    case KVM_EXIT_HLT:
      exit.kind = VcpuExit::Kind::kHlt;
      break;
    case KVM_EXIT_IO:
      exit.kind = VcpuExit::Kind::kIo;
      exit.io = DecodeIo(run, run_size);
      break;
    case KVM_EXIT_MMIO:
      exit.kind = VcpuExit::Kind::kMmio;
      exit.mmio = DecodeMmio(*run);
      break;
    case KVM_EXIT_SHUTDOWN:
      exit.kind = VcpuExit::Kind::kShutdown;
      break;
    case KVM_EXIT_INTERNAL_ERROR:
      exit.kind = VcpuExit::Kind::kInternalError;
      exit.suberror = run->internal.suberror;
      break;
    case KVM_EXIT_FAIL_ENTRY:
      exit.kind = VcpuExit::Kind::kFailEntry;
      exit.hardware_reason = run->fail_entry.hardware_entry_failure_reason;
      break;
    case KVM_EXIT_INTR:
      exit.kind = VcpuExit::Kind::kInterrupted;
      break;
    default:
      break;
  }
  return exit;
}

}  // namespace tdp
