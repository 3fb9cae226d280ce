#include "engine/kvm/vcpu_kicker.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "engine/base/errors.h"

namespace tdp {
namespace {

void IgnoreKick(int) {}

}  // namespace

int KickSignal() { return SIGRTMIN + 1; }

absl::Status InstallKickSignal() {
  struct sigaction action = {};
  action.sa_handler = IgnoreKick;
  sigemptyset(&action.sa_mask);
  if (sigaction(KickSignal(), &action, nullptr) != 0) {
    return HostCallError("sigaction() of the kick signal", errno);
  }
  return absl::OkStatus();
}

void VcpuKicker::BindThisThread() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, KickSignal());
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  const std::lock_guard<std::mutex> lock(mutex_);
  thread_id_ = static_cast<pid_t>(syscall(SYS_gettid));
}

void VcpuKicker::UnbindThread() {
  const std::lock_guard<std::mutex> lock(mutex_);
  thread_id_ = 0;
}

void VcpuKicker::Kick() {
  vcpu_->set_immediate_exit(true);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (thread_id_ != 0) {
    syscall(SYS_tgkill, getpid(), thread_id_, KickSignal());
  }
}

}  // namespace tdp
