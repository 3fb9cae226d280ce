// What the vCPUs of a VM run, and who waits for them.

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/kvm/boot.h"
#include "engine/memory/file_source.h"
#include "engine/memory/host_calls.h"
#include "engine/vm/elf_image.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

constexpr int64_t kMaxElfBytes = int64_t{64} << 20;
// What an ELF guest may have set to its bytes and zeros when it is loaded.
constexpr uint64_t kMaxElfMemoryBytes = uint64_t{1} << 30;

}  // namespace

absl::Status VmImpl::CheckVcpuIndex(int index) const {
  if (index >= 0 && index < config_.vcpu_count) return absl::OkStatus();
  return NotFoundError(absl::StrCat(name(), "/vcpus/", index));
}

absl::Status VmImpl::LoadGuest(int index, const GuestConfig& guest) {
  if (absl::Status s = CheckUsable("load a guest"); !s.ok()) return s;
  if (index != -1) {
    if (absl::Status s = CheckVcpuIndex(index); !s.ok()) return s;
  }
  absl::StatusOr<LoadedGuest> loaded = PrepareGuest(guest);
  if (!loaded.ok()) return loaded.status();
  MutexLock lifecycle(lifecycle_mutex_);
  for (int i = 0; i < config_.vcpu_count; ++i) {
    if (index == -1 || index == i) vcpus_->Load(i, *loaded);
  }
  return absl::OkStatus();
}

absl::StatusOr<LoadedGuest> VmImpl::PrepareGuest(const GuestConfig& guest) {
  if (const auto* touch = std::get_if<TouchGuestConfig>(&guest)) {
    if (absl::Status s = CheckRange(touch->range); !s.ok()) return s;
    if (touch->range.end > max_gfn_ + 1) {
      return FieldError("guest.touch.range.end_gfn",
                        Hex(touch->range.end.value()),
                        absl::StrCat("at most ", Hex(max_gfn_.value() + 1)));
    }
    if (touch->pass_count < -1) {
      return FieldError("guest.touch.pass_count",
                        absl::StrCat(touch->pass_count),
                        "-1 (until stopped), 0 (one pass) or more");
    }
    TouchGuestConfig config = *touch;
    if (config.pass_count == 0) config.pass_count = 1;
    return config;
  }
  if (kvm_vm_ == nullptr) {
    return MakeError(ErrorReason::kCapabilityMissing,
                     "code and ELF guests need a KVM virtual machine, and this "
                     "one runs on the software hypervisor; load a touch guest, "
                     "or create the VM with HYPERVISOR_KVM",
                     {{"hypervisor", "software"}});
  }
  if (const auto* elf = std::get_if<ElfGuestConfig>(&guest)) {
    return LoadElf(*elf);
  }
  const auto& code = std::get<CodeGuestConfig>(guest);
  if (code.code.empty()) {
    return FieldError("guest.code.code", "", "at least one byte");
  }
  if (static_cast<int64_t>(code.code.size()) > limits::kMaxCodeBytes) {
    return FieldError("guest.code.code",
                      absl::StrCat(code.code.size(), " bytes"),
                      absl::StrCat("at most ", limits::kMaxCodeBytes,
                                   " bytes; use an ELF guest for more"));
  }
  if (code.mode == CodeMode::kReal && code.entry_gpa.value() >= kRealModeEnd) {
    return FieldError("guest.code.entry_gpa", Hex(code.entry_gpa.value()),
                      "below 0x100000 in real mode");
  }
  if (absl::Status s = CheckBacked(code.entry_gpa, code.code.size()); !s.ok()) {
    return s;
  }
  if (absl::Status s = WriteMemory(code.entry_gpa, code.code); !s.ok()) {
    return s;
  }
  if (code.mode == CodeMode::kReal) return RealModeEntry{code.entry_gpa};
  return LongModeEntry{code.entry_gpa.value()};
}

absl::StatusOr<LoadedGuest> VmImpl::LoadElf(const ElfGuestConfig& guest) {
  absl::StatusOr<FileSource> file =
      FileSource::Open({.image_dir = environment_.image_dir,
                        .path = guest.path,
                        .field = "guest.elf"});
  if (!file.ok()) return file.status();
  if (file->size_bytes() > kMaxElfBytes) {
    return FieldError("guest.elf.path", guest.path,
                      absl::StrCat("a file of at most ", kMaxElfBytes,
                                   " bytes; it has ", file->size_bytes()));
  }
  std::string bytes(static_cast<size_t>(file->size_bytes()), '\0');
  HostCalls calls;
  size_t done = 0;
  if (absl::Status s =
          file->Read(calls, 0, Gpa(0), absl::MakeSpan(bytes), &done);
      !s.ok()) {
    return s;
  }
  absl::StatusOr<ElfImage> image = ParseElfImage(bytes, guest.path);
  if (!image.ok()) return image.status();
  // All segments are checked before the first byte is written.
  uint64_t memory_bytes = 0;
  for (const ElfSegment& segment : image->segments) {
    if (absl::Status s = CheckBacked(segment.gpa, segment.memory_bytes);
        !s.ok()) {
      return s;
    }
    memory_bytes += std::min(segment.memory_bytes, kMaxElfMemoryBytes + 1);
    if (memory_bytes > kMaxElfMemoryBytes) {
      return FieldError("guest.elf.path", guest.path,
                        absl::StrCat("an executable whose segments take at "
                                     "most ",
                                     kMaxElfMemoryBytes, " bytes"));
    }
  }
  for (const ElfSegment& segment : image->segments) {
    if (absl::Status s = WriteMemory(segment.gpa, segment.file_bytes);
        !s.ok()) {
      return s;
    }
    const uint64_t zero_bytes =
        segment.memory_bytes - segment.file_bytes.size();
    const std::string zeros(std::min(zero_bytes, uint64_t{1} << 20), '\0');
    for (uint64_t at = 0; at < zero_bytes; at += zeros.size()) {
      const uint64_t count = std::min<uint64_t>(zeros.size(), zero_bytes - at);
      if (absl::Status s =
              WriteMemory(segment.gpa + segment.file_bytes.size() + at,
                          absl::string_view(zeros).substr(0, count));
          !s.ok()) {
        return s;
      }
    }
  }
  return LongModeEntry{image->entry};
}

absl::StatusOr<VcpuInfo> VmImpl::GetVcpu(int index) const {
  if (absl::Status s = CheckVcpuIndex(index); !s.ok()) return s;
  return vcpus_->Describe(index);
}

std::vector<VcpuInfo> VmImpl::ListVcpus() const {
  std::vector<VcpuInfo> all;
  for (int i = 0; i < config_.vcpu_count; ++i) {
    all.push_back(vcpus_->Describe(i));
  }
  return all;
}

absl::StatusOr<int64_t> VmImpl::WaitVcpu(int index, absl::Time deadline,
                                         std::function<void(VcpuInfo)> done) {
  if (absl::Status s = CheckVcpuIndex(index); !s.ok()) return s;
  int64_t id = 0;
  {
    MutexLock lock(state_mutex_);
    if (torn_down_) return NotFoundError(name());
    id = next_waiter_id_++;
    waiters_.emplace(
        id, VcpuWaiter{index, std::move(done),
                       timers_.RunAt(deadline, [this, id] { EndWait(id); })});
  }
  // Registered first: an exit from here on finds the waiter.
  if (vcpus_->Describe(index).state == VcpuState::kExited) {
    FinishWaiters(index);
  }
  return id;
}

void VmImpl::EndWait(int64_t wait_id) {
  VcpuWaiter waiter;
  {
    MutexLock lock(state_mutex_);
    const auto it = waiters_.find(wait_id);
    if (it == waiters_.end()) return;
    waiter = std::move(it->second);
    waiters_.erase(it);
  }
  timers_.Cancel(waiter.at_deadline);
  waiter.done(vcpus_->Describe(waiter.index));
}

void VmImpl::FinishWaiters(int index) {
  std::vector<VcpuWaiter> ready;
  {
    MutexLock lock(state_mutex_);
    for (auto it = waiters_.begin(); it != waiters_.end();) {
      if (it->second.index != index) {
        ++it;
        continue;
      }
      ready.push_back(std::move(it->second));
      it = waiters_.erase(it);
    }
  }
  if (ready.empty()) return;
  const VcpuInfo info = vcpus_->Describe(index);
  for (const VcpuWaiter& waiter : ready) {
    timers_.Cancel(waiter.at_deadline);
    waiter.done(info);
  }
}

}  // namespace tdp
