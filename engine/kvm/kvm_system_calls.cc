#include "engine/kvm/kvm_system_calls.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

namespace tdp {
namespace {

class HostKvmSystemCalls : public KvmSystemCalls {
 public:
  int Open(const char* path) override {
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
  }

  std::string ReadLine(const char* path) override {
    std::string line;
    std::ifstream file(path);
    std::getline(file, line);
    return line;
  }

  int Ioctl(int fd, uint64_t request, uintptr_t argument) override {
    const int result = ioctl(fd, request, argument);
    return result >= 0 ? result : -errno;
  }

  void* Map(int fd, size_t size, int* error) override {
    void* address =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address != MAP_FAILED) return address;
    *error = errno;
    return nullptr;
  }

  void Unmap(void* address, size_t size) override { munmap(address, size); }

  void Close(int fd) override { close(fd); }
};

}  // namespace

std::shared_ptr<KvmSystemCalls> MakeHostKvmSystemCalls() {
  return std::make_shared<HostKvmSystemCalls>();
}

}  // namespace tdp
