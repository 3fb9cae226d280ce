#include "engine/kvm/fake_kvm.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace tdp {
namespace {

constexpr uint32_t kExitMemoryFault = 39;  // Linux 6.8

FakeExit FakeMmio(Gpa gpa, uint32_t size, absl::string_view bytes) {
  return [gpa, size, data = std::string(bytes)](kvm_run* run) {
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = gpa.value();
    run->mmio.len = size;
    run->mmio.is_write = data.empty() ? 0 : 1;
    memcpy(run->mmio.data, data.data(), data.size());
    return 0;
  };
}

FakeExit FakeIo(uint16_t port, uint8_t direction, uint8_t size,
                absl::string_view bytes) {
  return [port, direction, size, data = std::string(bytes)](kvm_run* run) {
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = direction;
    run->io.size = size;
    run->io.port = port;
    run->io.count = static_cast<uint32_t>(data.size() / size);
    run->io.data_offset = FakeKvm::kIoDataOffset;
    memcpy(reinterpret_cast<uint8_t*>(run) + FakeKvm::kIoDataOffset,
           data.data(), data.size());
    return 0;
  };
}

template <typename T>
T& At(uintptr_t argument) {
  return *reinterpret_cast<T*>(argument);
}

}  // namespace

FakeExit FakeReason(uint32_t reason) {
  return [reason](kvm_run* run) {
    run->exit_reason = reason;
    return 0;
  };
}

FakeExit FakeHlt() { return FakeReason(KVM_EXIT_HLT); }

FakeExit FakeShutdown() { return FakeReason(KVM_EXIT_SHUTDOWN); }

FakeExit FakeInternalError(uint32_t suberror) {
  return [suberror](kvm_run* run) {
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->internal.suberror = suberror;
    return 0;
  };
}

FakeExit FakeFailEntry(uint64_t hardware_reason) {
  return [hardware_reason](kvm_run* run) {
    run->exit_reason = KVM_EXIT_FAIL_ENTRY;
    run->fail_entry.hardware_entry_failure_reason = hardware_reason;
    return 0;
  };
}

FakeExit FakeIoWrite(uint16_t port, absl::string_view bytes) {
  return FakeIo(port, KVM_EXIT_IO_OUT, 1, bytes);
}

FakeExit FakeIoRead(uint16_t port, uint8_t size) {
  return FakeIo(port, KVM_EXIT_IO_IN, size, std::string(size, '\0'));
}

FakeExit FakeMmioWrite(Gpa gpa, absl::string_view bytes) {
  return FakeMmio(gpa, static_cast<uint32_t>(bytes.size()), bytes);
}

FakeExit FakeMmioRead(Gpa gpa, uint32_t size) {
  return FakeMmio(gpa, size, "");
}

FakeExit FakeMemoryFault(Gpa gpa, uint64_t size) {
  return [gpa, size](kvm_run* run) {
    const uint64_t fields[] = {0, gpa.value(), size};
    run->exit_reason = kExitMemoryFault;
    memcpy(run->padding, fields, sizeof fields);
    return -EFAULT;
  };
}

FakeExit FakeRunError(int error) {
  return [error](kvm_run*) { return -error; };
}

FakeKvm::FakeKvm() {
  extensions_ = {{KVM_CAP_USER_MEMORY, 1},
                 {KVM_CAP_SYNC_MMU, 1},
                 {KVM_CAP_IMMEDIATE_EXIT, 1},
                 {KVM_CAP_EXT_CPUID, 1},
                 {KVM_CAP_NR_MEMSLOTS, 32764},
                 {KVM_CAP_MAX_VCPUS, 1024},
                 {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3},
                 {KVM_CAP_DIRTY_LOG_RING, 1 << 20},
                 {232 /* KVM_CAP_MEMORY_FAULT_INFO */, 1}};
  kvm_cpuid_entry2 sizes = {};
  sizes.function = 0x80000008;
  sizes.eax = 0x3030;
  supported_cpuid_ = {sizes};
}

FakeKvm::~FakeKvm() = default;

void FakeKvm::set_open_error(int error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  open_error_ = error;
}

void FakeKvm::set_extension(int extension, int value) {
  const std::lock_guard<std::mutex> lock(mutex_);
  extensions_[extension] = value;
}

void FakeKvm::set_line(const std::string& path, const std::string& line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  lines_[path] = line;
}

void FakeKvm::set_cpuid(KvmCpuid entries) {
  const std::lock_guard<std::mutex> lock(mutex_);
  supported_cpuid_ = std::move(entries);
}

void FakeKvm::set_map_error(int error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  map_error_ = error;
}

void FakeKvm::FailIoctl(uint64_t request, int result, int count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  failures_[request] = {result, count};
}

void FakeKvm::PushExit(int index, FakeExit exit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  vcpus_[index].script.push_back(std::move(exit));
}

std::map<uint32_t, kvm_userspace_memory_region> FakeKvm::memslots() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return memslots_;
}

kvm_regs FakeKvm::registers(int index) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return vcpus_.at(index).regs;
}

kvm_sregs FakeKvm::system_registers(int index) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return vcpus_.at(index).sregs;
}

KvmCpuid FakeKvm::cpuid(int index) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return vcpus_.at(index).cpuid;
}

int FakeKvm::open_count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(files_.size()) + mapping_count_;
}

int FakeKvm::Open(const char*) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_error_ != 0) return -open_error_;
  return NewFd(FileKind::kSystem);
}

std::string FakeKvm::ReadLine(const char* path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto line = lines_.find(path);
  return line == lines_.end() ? "" : line->second;
}

int FakeKvm::Ioctl(int fd, uint64_t request, uintptr_t argument) {
  int run_index;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Failure& failure = failures_[request];
    if (failure.count > 0) {
      --failure.count;
      return failure.result;
    }
    const auto file = files_.find(fd);
    if (file == files_.end()) return -EBADF;
    const int index = file->second.index;
    if (file->second.kind == FileKind::kSystem) {
      return SystemIoctl(request, argument);
    }
    if (file->second.kind == FileKind::kVm) return VmIoctl(request, argument);
    if (request != KVM_RUN) {
      return VcpuIoctl(vcpus_[index], request, argument);
    }
    run_index = index;
  }
  return Run(run_index);
}

void* FakeKvm::Map(int fd, size_t size, int* error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (map_error_ != 0) {
    *error = map_error_;
    return nullptr;
  }
  ++mapping_count_;
  void* page = new uint64_t[size / sizeof(uint64_t)]();
  vcpus_[files_.at(fd).index].run = static_cast<kvm_run*>(page);
  return page;
}

void FakeKvm::Unmap(void* address, size_t) {
  const std::lock_guard<std::mutex> lock(mutex_);
  --mapping_count_;
  delete[] static_cast<uint64_t*>(address);
}

void FakeKvm::Close(int fd) {
  const std::lock_guard<std::mutex> lock(mutex_);
  files_.erase(fd);
}

int FakeKvm::NewFd(FileKind kind, int index) {
  files_[next_fd_] = {kind, index};
  return next_fd_++;
}

int FakeKvm::SystemIoctl(uint64_t request, uintptr_t argument) {
  switch (request) {
    case KVM_GET_API_VERSION:
      return KVM_API_VERSION;
    case KVM_CHECK_EXTENSION:
      return extensions_[static_cast<int>(argument)];
    case KVM_GET_VCPU_MMAP_SIZE:
      return kRunBytes;
    case kKvmGetSupportedCpuid:
      return GetSupportedCpuid(&At<uint8_t>(argument));
    case KVM_CREATE_VM:
      memslots_.clear();
      return NewFd(FileKind::kVm);
    default:
      return -ENOTTY;
  }
}

int FakeKvm::GetSupportedCpuid(uint8_t* out) const {
  if (UnpackCpuid(out).size() < supported_cpuid_.size()) return -E2BIG;
  const std::vector<uint8_t> packed = PackCpuid(supported_cpuid_);
  memcpy(out, packed.data(), packed.size());
  return 0;
}

int FakeKvm::VmIoctl(uint64_t request, uintptr_t argument) {
  switch (request) {
    case KVM_SET_USER_MEMORY_REGION:
      return SetMemslot(At<kvm_userspace_memory_region>(argument));
    case KVM_GET_DIRTY_LOG:
      return GetDirtyLog(At<kvm_dirty_log>(argument));
    case KVM_CREATE_VCPU: {
      const int index = static_cast<int>(argument);
      for (const auto& [fd, file] : files_) {
        if (file.kind == FileKind::kVcpu && file.index == index) {
          return -EEXIST;
        }
      }
      return NewFd(FileKind::kVcpu, index);
    }
    default:
      return -ENOTTY;
  }
}

int FakeKvm::SetMemslot(const kvm_userspace_memory_region& region) {
  const uint64_t end = region.guest_phys_addr + region.memory_size;
  if (region.memory_size == 0) {
    return memslots_.erase(region.slot) == 1 ? 0 : -EINVAL;
  }
  if ((region.guest_phys_addr | region.memory_size | region.userspace_addr) %
              kPageSize !=
          0 ||
      end < region.guest_phys_addr ||
      region.slot >= static_cast<uint32_t>(extensions_[KVM_CAP_NR_MEMSLOTS])) {
    return -EINVAL;
  }
  for (const auto& [id, other] : memslots_) {
    if (id != region.slot &&
        region.guest_phys_addr < other.guest_phys_addr + other.memory_size &&
        other.guest_phys_addr < end) {
      return -EEXIST;
    }
  }
  memslots_[region.slot] = region;
  return 0;
}

int FakeKvm::GetDirtyLog(const kvm_dirty_log& log) {
  const auto slot = memslots_.find(log.slot);
  if (slot == memslots_.end() ||
      (slot->second.flags & KVM_MEM_LOG_DIRTY_PAGES) == 0) {
    return -ENOENT;
  }
  auto* const words = static_cast<uint64_t*>(log.dirty_bitmap);
  const uint64_t frames = slot->second.memory_size / kPageSize;
  std::fill(words, words + (frames + 63) / 64, 0);
  for (const uint64_t frame : written_[log.slot]) {
    words[frame / 64] |= uint64_t{1} << frame % 64;
  }
  written_[log.slot].clear();
  return 0;
}

void FakeKvm::WriteFrame(uint32_t id, uint64_t frame) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if ((memslots_[id].flags & KVM_MEM_LOG_DIRTY_PAGES) != 0) {
    written_[id].insert(frame);
  }
}

int FakeKvm::VcpuIoctl(Vcpu& vcpu, uint64_t request, uintptr_t argument) {
  switch (request) {
    case KVM_GET_REGS:
      At<kvm_regs>(argument) = vcpu.regs;
      return 0;
    case KVM_SET_REGS:
      vcpu.regs = At<kvm_regs>(argument);
      return 0;
    case KVM_GET_SREGS:
      At<kvm_sregs>(argument) = vcpu.sregs;
      return 0;
    case KVM_SET_SREGS:
      vcpu.sregs = At<kvm_sregs>(argument);
      return 0;
    case KVM_SET_FPU:
    case KVM_SET_VCPU_EVENTS:
      return 0;
    case kKvmSetCpuid2:
      vcpu.cpuid = UnpackCpuid(&At<uint8_t>(argument));
      return 0;
    default:
      return -ENOTTY;
  }
}

int FakeKvm::Run(int index) {
  kvm_run* run = nullptr;
  FakeExit exit;
  while (true) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      Vcpu& vcpu = vcpus_[index];
      run = vcpu.run;
      if (__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST) != 0) {
        run->exit_reason = KVM_EXIT_INTR;
        return -EINTR;
      }
      if (!vcpu.script.empty()) {
        exit = std::move(vcpu.script.front());
        vcpu.script.pop_front();
        break;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return exit(run);
}

}  // namespace tdp
