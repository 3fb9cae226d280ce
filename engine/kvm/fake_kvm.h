// FakeKvm: a kernel for tests that have no KVM, or want it to misbehave. It
// keeps memslots and registers as KVM does; what a vCPU does in the guest is a
// script of exits.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_KVM_FAKE_KVM_H_
#define ENGINE_KVM_FAKE_KVM_H_

#include <linux/kvm.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/types.h"
#include "engine/kvm/kvm_cpuid.h"
#include "engine/kvm/kvm_system_calls.h"

namespace tdp {

// One return of KVM_RUN: fills in the shared page and returns 0 or -errno. It
// may block, touch memory or call the test back. No lock is held.
using FakeExit = std::function<int(kvm_run*)>;

FakeExit FakeHlt();
FakeExit FakeShutdown();
FakeExit FakeInternalError(uint32_t suberror);
FakeExit FakeFailEntry(uint64_t hardware_reason);
FakeExit FakeIoWrite(uint16_t port, absl::string_view bytes);
FakeExit FakeIoRead(uint16_t port, uint8_t size);
FakeExit FakeMmioWrite(Gpa gpa, absl::string_view bytes);
FakeExit FakeMmioRead(Gpa gpa, uint32_t size);
FakeExit FakeMemoryFault(Gpa gpa, uint64_t size);
FakeExit FakeReason(uint32_t reason);
FakeExit FakeRunError(int error);

class FakeKvm : public KvmSystemCalls {
 public:
  // Shared page of a vCPU, in bytes, and where port data lies in it.
  static constexpr size_t kRunBytes = 3 * kPageSize;
  static constexpr size_t kIoDataOffset = kPageSize;

  // A KVM that has everything and addresses of 48 bits.
  FakeKvm();
  ~FakeKvm() override;

  // Misbehaviour, from now on.
  void set_open_error(int error);
  void set_extension(int extension, int value);
  void set_line(const std::string& path, const std::string& line);
  void set_cpuid(KvmCpuid entries);
  void set_map_error(int error);
  // The next `count` calls of `request` answer `result` and do nothing.
  void FailIoctl(uint64_t request, int result, int count = 1);

  // Appends to what KVM_RUN of vCPU `index` does, of any VM. When the script is
  // at its end the vCPU spins in the guest until immediate_exit is set. An
  // entry with immediate_exit set takes nothing off the script.
  void PushExit(int index, FakeExit exit);

  // Memslots of the VM that was created last, by id.
  std::map<uint32_t, kvm_userspace_memory_region> memslots() const;
  // The guest writes to a frame of a memslot.
  void WriteFrame(uint32_t id, uint64_t frame);
  kvm_regs registers(int index) const;
  kvm_sregs system_registers(int index) const;
  KvmCpuid cpuid(int index) const;
  // Descriptors and mappings that are open: leaks, at a test's end.
  int open_count() const;

  int Open(const char* path) override;
  std::string ReadLine(const char* path) override;
  int Ioctl(int fd, uint64_t request, uintptr_t argument) override;
  void* Map(int fd, size_t size, int* error) override;
  void Unmap(void* address, size_t size) override;
  void Close(int fd) override;

 private:
  enum class FileKind { kSystem, kVm, kVcpu };
  struct File {
    FileKind kind;
    int index = 0;  // of a vCPU
  };
  struct Failure {
    int result = 0;
    int count = 0;
  };
  struct Vcpu {
    kvm_regs regs = {};
    kvm_sregs sregs = {};
    KvmCpuid cpuid;
    std::deque<FakeExit> script;
    kvm_run* run = nullptr;
  };

  int NewFd(FileKind kind, int index = 0);
  int SystemIoctl(uint64_t request, uintptr_t argument);
  int GetSupportedCpuid(uint8_t* out) const;
  int VmIoctl(uint64_t request, uintptr_t argument);
  int SetMemslot(const kvm_userspace_memory_region& region);
  int GetDirtyLog(const kvm_dirty_log& log);
  int VcpuIoctl(Vcpu& vcpu, uint64_t request, uintptr_t argument);
  int Run(int index);

  mutable std::mutex mutex_;
  // All guarded by mutex_.
  int open_error_ = 0;
  int map_error_ = 0;
  int next_fd_ = 1000;
  int mapping_count_ = 0;
  std::map<int, int> extensions_;
  std::map<std::string, std::string> lines_;
  std::map<uint64_t, Failure> failures_;
  KvmCpuid supported_cpuid_;
  std::map<int, File> files_;
  std::map<uint32_t, kvm_userspace_memory_region> memslots_;
  std::map<uint32_t, std::set<uint64_t>>
      written_;  // where dirty pages are logged
  std::map<int, Vcpu> vcpus_;
};

}  // namespace tdp

#endif  // ENGINE_KVM_FAKE_KVM_H_
