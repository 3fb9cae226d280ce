// DaemonProcess: a daemon as its users see it: a process with arguments, a log,
// a socket and an exit status. It does not outlive the thread that started it.
//
// Thread safety: none; one thread.

#ifndef SERVER_TESTING_DAEMON_PROCESS_H_
#define SERVER_TESTING_DAEMON_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace tdp::server {

class DaemonProcess {
 public:
  // Runs `binary` with `arguments`; its output goes to `log_path`.
  DaemonProcess(const std::string& binary, std::vector<std::string> arguments,
                std::string log_path);
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;
  // Kills it if it still runs.
  ~DaemonProcess();

  // Waits until it serves; false if it ended instead.
  bool AwaitReady();
  // Waits for its end and returns the exit status, or 128 plus the signal.
  int AwaitExit();
  void Signal(int number);
  pid_t pid() const { return pid_; }
  // The entries of a folder of its /proc, e.g. "fd" or "task".
  int CountOf(const std::string& folder) const;
  // What it has written so far.
  std::string Output() const;

 private:
  // Whether it has ended; waits for that if `block`.
  bool Reap(bool block);

  const std::string log_path_;
  pid_t pid_ = -1;
  bool ended_ = false;
  int exit_status_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_TESTING_DAEMON_PROCESS_H_
