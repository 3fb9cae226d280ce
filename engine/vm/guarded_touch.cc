#include "engine/vm/guarded_touch.h"

#include <signal.h>
#include <ucontext.h>

#include <cerrno>
#include <mutex>

#include "engine/base/errors.h"

namespace tdp {
namespace {

extern "C" {
// Both return 1, or 0 by way of tdp_guarded_refused.
int tdp_guarded_read(const volatile uint8_t* address);
int tdp_guarded_write(volatile uint8_t* address, int value);
// The two instructions that may fault, and where they go then.
extern const char tdp_guarded_read_access[];
extern const char tdp_guarded_write_access[];
extern const char tdp_guarded_refused[];
}

// In assembly, so that the address of the access is known and no sanitizer
// puts a check of its own before it.
asm(R"(
    .pushsection .text
    .balign 16
    .type tdp_guarded_read, @function
tdp_guarded_read:
tdp_guarded_read_access:
    movb (%rdi), %al
    movl $1, %eax
    ret
    .size tdp_guarded_read, . - tdp_guarded_read
    .type tdp_guarded_write, @function
tdp_guarded_write:
tdp_guarded_write_access:
    movb %sil, (%rdi)
    movl $1, %eax
    ret
tdp_guarded_refused:
    xorl %eax, %eax
    ret
    .size tdp_guarded_write, . - tdp_guarded_write
    .popsection
)");

// What was installed before. Written once, before the handler is installed.
struct sigaction g_previous_segv;
struct sigaction g_previous_bus;

void CallPrevious(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous =
      signal == SIGBUS ? g_previous_bus : g_previous_segv;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
    return;
  }
  // A fault is never ignored: the kernel would end the process too.
  if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
    ::signal(signal, SIG_DFL);
    // A fault comes again when the handler returns; one that was sent does
    // not.
    if (info->si_code <= 0) raise(signal);
    return;
  }
  previous.sa_handler(signal);
}

void OnFault(int signal, siginfo_t* info, void* context) {
  greg_t& rip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  const auto at = [rip](const char* address) {
    return rip == static_cast<greg_t>(reinterpret_cast<uintptr_t>(address));
  };
  if (info->si_code > 0 &&
      (at(tdp_guarded_read_access) || at(tdp_guarded_write_access))) {
    rip =
        static_cast<greg_t>(reinterpret_cast<uintptr_t>(&tdp_guarded_refused));
    return;
  }
  CallPrevious(signal, info, context);
}

// Remembers the handler of `signal` in `*previous` before ours can run.
int Install(int signal, struct sigaction* previous) {
  if (sigaction(signal, nullptr, previous) != 0) return errno;
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(signal, &action, nullptr) == 0 ? 0 : errno;
}

}  // namespace

absl::Status InstallGuardedTouch() {
  static std::once_flag once;
  static int error = 0;
  std::call_once(once, [] {
    error = Install(SIGSEGV, &g_previous_segv);
    if (error == 0) error = Install(SIGBUS, &g_previous_bus);
  });
  if (error != 0) return HostCallError("sigaction()", error);
  return absl::OkStatus();
}

bool GuardedRead(const volatile uint8_t* address) {
  return tdp_guarded_read(address) != 0;
}

bool GuardedWrite(volatile uint8_t* address, uint8_t value) {
  return tdp_guarded_write(address, value) != 0;
}

}  // namespace tdp
