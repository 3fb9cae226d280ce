#include "server/testing/daemon_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tdp::server {

DaemonProcess::DaemonProcess(const std::string& binary,
                             std::vector<std::string> arguments,
                             std::string log_path)
    : log_path_(std::move(log_path)) {
  std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int log =
      open(log_path_.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(log);
}

DaemonProcess::~DaemonProcess() {
  if (ended_) return;
  kill(pid_, SIGKILL);
  Reap(/*block=*/true);
}

bool DaemonProcess::AwaitReady() {
  while (!absl::StrContains(Output(), " serving on ")) {
    if (Reap(/*block=*/false)) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

int DaemonProcess::AwaitExit() {
  Reap(/*block=*/true);
  return exit_status_;
}

void DaemonProcess::Signal(int number) {
  if (!ended_) kill(pid_, number);
}

int DaemonProcess::CountOf(const std::string& folder) const {
  const std::filesystem::directory_iterator entries(
      absl::StrCat("/proc/", pid_, "/", folder));
  return static_cast<int>(std::distance(begin(entries), end(entries)));
}

std::string DaemonProcess::Output() const {
  std::ifstream log(log_path_, std::ios::binary);
  return {std::istreambuf_iterator<char>(log), {}};
}

bool DaemonProcess::Reap(bool block) {
  if (ended_) return true;
  int status = 0;
  if (waitpid(pid_, &status, block ? 0 : WNOHANG) != pid_) return false;
  ended_ = true;
  exit_status_ =
      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return true;
}

}  // namespace tdp::server
