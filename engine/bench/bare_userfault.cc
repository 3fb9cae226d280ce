#include "engine/bench/bare_userfault.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "engine/base/check.h"
#include "engine/bench/harness.h"
#include "engine/bench/touched_vm.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kFramesPerCall = FramesPerEntry(PageLevel::k2M);

// `call(first, count)` for each part of the range that one call covers.
template <typename Call>
void InCalls(uint64_t first, uint64_t count, Call call) {
  for (const uint64_t end = first + count; first < end;) {
    const uint64_t part = std::min(kFramesPerCall, end - first);
    call(first, part);
    first += part;
  }
}

}  // namespace

void BareCalls::Continue(uint64_t address, uint64_t bytes) const {
  uffdio_continue argument = {};
  argument.range = {address, bytes};
  TDP_CHECK(ioctl(userfaultfd_, UFFDIO_CONTINUE, &argument) == 0,
            "UFFDIO_CONTINUE failed");
}

void BareCalls::Map(uint64_t first, uint64_t count) const {
  InCalls(first, count, [this](uint64_t start, uint64_t part) {
    Continue(HvaOf(start).value(), part << kPageShift);
  });
}

void BareCalls::Zap(uint64_t first, uint64_t count) const {
  InCalls(first, count, [this](uint64_t start, uint64_t part) {
    void* const address = reinterpret_cast<void*>(HvaOf(start).value());
    TDP_CHECK(madvise(address, part << kPageShift, MADV_DONTNEED) == 0,
              "MADV_DONTNEED failed");
  });
}

void BareCalls::MapFrameAt(uint64_t address) const {
  Continue(address & ~(kPageSize - 1), kPageSize);
}

BareWindow::BareWindow(uint64_t frames, Faults faults) {
  auto memory = GuestMemory::Create("bench", frames, &host_calls_);
  Must(memory.status());
  memory_ = *std::move(memory);
  TDP_CHECK(memory_->Allocate(0, frames) == 0, "memory for the bare window");
  int fd = -1;
  if (faults == Faults::kUserfault) {
    // Should that leave out the kernel, no guest of KVM can run either.
    auto userfaultfd = Userfaultfd::Create({.origin = FaultOrigin::kUserOnly});
    Must(userfaultfd.status());
    userfaultfd_.emplace(*std::move(userfaultfd));
    const int error = userfaultfd_->Register(hva(), size_bytes(),
                                             UFFDIO_REGISTER_MODE_MISSING |
                                                 UFFDIO_REGISTER_MODE_MINOR |
                                                 UFFDIO_REGISTER_MODE_WP);
    TDP_CHECK(error == 0, "UFFDIO_REGISTER failed");
    fd = userfaultfd_->fd();
  }
  calls_.emplace(hva(), fd);
}

BareHandler::BareHandler(const BareWindow& window, Wait wait)
    : calls_(window.calls()), wait_(wait) {
  const int flags = wait == Wait::kRead ? 0 : O_NONBLOCK;
  TDP_CHECK(fcntl(calls_.userfaultfd(), F_SETFL, flags) == 0,
            "fcntl(F_SETFL) failed");
  thread_ = std::thread([this] { Run(); });
}

BareHandler::~BareHandler() {
  calls_.Zap(0, 1);
  stop_.store(true);
  Sink(*reinterpret_cast<volatile uint8_t*>(calls_.HvaOf(0).value()));
  thread_.join();
}

void BareHandler::Run() {
  const int fd = calls_.userfaultfd();
  for (bool last = false; !last;) {
    if (wait_ == Wait::kPoll) {
      pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
      if (poll(&ready, 1, -1) != 1) continue;
    }
    uffd_msg message;
    if (read(fd, &message, sizeof(message)) != sizeof(message)) continue;
    // Whoever touched the page sleeps: the answer is as it was then.
    last = stop_.load();
    calls_.MapFrameAt(message.arg.pagefault.address);
  }
}

}  // namespace tdp::bench
