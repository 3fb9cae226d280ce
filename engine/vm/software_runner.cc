#include "engine/vm/software_runner.h"

#include "engine/base/errors.h"
#include "engine/vm/guarded_touch.h"

namespace tdp {

absl::Status SoftwareRunner::Boot(const LoadedGuest& guest) {
  const auto* touch = std::get_if<TouchGuestConfig>(&guest);
  if (touch == nullptr) {
    return MakeError(ErrorReason::kCapabilityMissing,
                     "code and ELF guests need a KVM virtual machine; this one "
                     "runs on the software hypervisor",
                     {{"hypervisor", "software"}});
  }
  sequence_.emplace(*touch);
  write_ = touch->write;
  touch_.reset();
  touched_count_.store(0, std::memory_order_relaxed);
  return absl::OkStatus();
}

GuestExit SoftwareRunner::Run() {
  // The memslot of the last touch. Found anew at each entry: memslots change
  // only while the vCPU is outside.
  std::shared_ptr<Memslot> memslot;
  GfnRange range;
  for (;;) {
    if (kicked_.load(std::memory_order_acquire)) {
      return {.kind = GuestExit::Kind::kInterrupted, .name = "INTR"};
    }
    if (!touch_.has_value()) {
      Touch next;
      if (!sequence_->Next(&next)) {
        return {.kind = GuestExit::Kind::kDone, .name = "HLT"};
      }
      touch_ = next;
    }
    if (memslot == nullptr || !range.Contains(touch_->gfn)) {
      memslot = memslots_.Find(touch_->gfn);
      if (memslot == nullptr) {
        return {.kind = GuestExit::Kind::kAccess,
                .name = "MMIO",
                .bytes = write_
                             ? std::string(1, static_cast<char>(touch_->value))
                             : std::string(),
                .gpa = GpaOf(touch_->gfn),
                .size = 1,
                .is_write = write_};
      }
      range = memslot->range();
    }
    auto* byte = reinterpret_cast<volatile uint8_t*>(
        memslot->window_hva().value() +
        (touch_->gfn - range.start) * kPageSize);
    const bool done =
        write_ ? GuardedWrite(byte, touch_->value) : GuardedRead(byte);
    if (!done) {
      return {.kind = GuestExit::Kind::kRefused, .name = "MEMORY_FAULT"};
    }
    FinishTouch();
  }
}

void SoftwareRunner::FinishTouch() {
  touch_.reset();
  // Relaxed: one writer.
  touched_count_.store(touched_count_.load(std::memory_order_relaxed) + 1,
                       std::memory_order_relaxed);
}

}  // namespace tdp
