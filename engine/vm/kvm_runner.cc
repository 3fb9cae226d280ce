#include "engine/vm/kvm_runner.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/kvm/boot.h"
#include "engine/vm/touch_sequence.h"

namespace tdp {
namespace {

constexpr uint16_t kConsolePort = 0x3f8;

}  // namespace

absl::Status KvmRunner::Boot(const LoadedGuest& guest) {
  TouchBlock* block = memory_.touch_block(vcpu_->index());
  __atomic_store_n(&block->touched_count, 0, __ATOMIC_RELAXED);
  if (const auto* real = std::get_if<RealModeEntry>(&guest)) {
    return SetUpRealMode(*vcpu_, real->entry);
  }
  LongModeStart start = {.page_table_root = memory_.page_table_root(),
                         .gdt = memory_.gdt(),
                         .argument = static_cast<uint64_t>(vcpu_->index()),
                         .stack = memory_.stack_top(vcpu_->index()).value()};
  if (const auto* touch = std::get_if<TouchGuestConfig>(&guest)) {
    *block = MakeTouchBlock(*touch);
    start.entry = memory_.touch_program_entry().value();
    start.argument = memory_.touch_block_gpa(vcpu_->index()).value();
  } else {
    start.entry = std::get<LongModeEntry>(guest).entry;
  }
  return SetUpLongMode(*vcpu_, start);
}

int64_t KvmRunner::touched_frame_count() const {
  return static_cast<int64_t>(
      TouchedCount(*memory_.touch_block(vcpu_->index())));
}

GuestExit KvmRunner::Run() {
  VcpuExit raw = vcpu_->Run();
  if (absl::StatusOr<uint64_t> rip = vcpu_->InstructionPointer(); rip.ok()) {
    instruction_pointer_.store(*rip, std::memory_order_relaxed);
  }
  GuestExit exit = {.name = raw.name};
  switch (raw.kind) {
    case VcpuExit::Kind::kHlt:
    case VcpuExit::Kind::kShutdown:
      exit.kind = GuestExit::Kind::kDone;
      break;
    case VcpuExit::Kind::kInterrupted:
      exit.kind = GuestExit::Kind::kInterrupted;
      break;
    case VcpuExit::Kind::kIo:
      if (!raw.io.is_write) {
        // No device answers: the bus reads as ones.
        const std::vector<uint8_t> ones(raw.io.data.size(), 0xff);
        vcpu_->CompleteIoRead(ones);
        exit.kind = GuestExit::Kind::kIgnored;
      } else if (raw.io.port == kConsolePort) {
        exit.kind = GuestExit::Kind::kConsole;
        exit.bytes.assign(raw.io.data.begin(), raw.io.data.end());
      } else {
        exit.kind = GuestExit::Kind::kIgnored;
      }
      break;
    case VcpuExit::Kind::kMmio:
      exit.kind = GuestExit::Kind::kAccess;
      exit.gpa = raw.mmio.gpa;
      exit.size = raw.mmio.size;
      exit.is_write = raw.mmio.is_write;
      if (exit.is_write) {
        exit.bytes.assign(raw.mmio.data.begin(),
                          raw.mmio.data.begin() + raw.mmio.size);
      }
      break;
    case VcpuExit::Kind::kFault:
    case VcpuExit::Kind::kMemoryFault:
    case VcpuExit::Kind::kInternalError:
      // What the emulator could not fetch or finish because the window
      // refused it; or the guest's own fault. Who ejected the vCPU knows.
      exit.kind = GuestExit::Kind::kRefused;
      break;
    case VcpuExit::Kind::kFailEntry:
    case VcpuExit::Kind::kRunFailed:
    case VcpuExit::Kind::kOther:
      exit.kind = GuestExit::Kind::kFailed;
      break;
  }
  return exit;
}

}  // namespace tdp
