// AttackProcess: an attack in a process of its own, as peers are processes.
//
// Thread safety: none.

#ifndef SERVER_GUARD_ATTACK_PROCESS_H_
#define SERVER_GUARD_ATTACK_PROCESS_H_

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>

#include "gtest/gtest.h"

namespace tdp::server {

// What an attack did, as its process tells it.
struct Report {
  int64_t sent = 0;    // of what it floods with
  int64_t opened = 0;  // connections that were let in
  int64_t cut = 0;     // of them, closed by the server
  double cut_after_ms = 0;
};

// A process that attacks.
class AttackProcess {
 public:
  explicit AttackProcess(const std::function<Report()>& attack) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      // Who writes to a server that has hung up is told so.
      signal(SIGPIPE, SIG_IGN);
      const Report report = attack();
      const ssize_t written = write(ends[1], &report, sizeof(report));
      _exit(written == sizeof(report) ? 0 : 1);
    }
    close(ends[1]);
    pipe_ = ends[0];
  }
  AttackProcess(const AttackProcess&) = delete;
  AttackProcess& operator=(const AttackProcess&) = delete;
  ~AttackProcess() {
    close(pipe_);
    int status = 0;
    waitpid(pid_, &status, 0);
    EXPECT_EQ(status, 0);
  }
  // Waits for its end.
  Report Wait() {
    Report report;
    EXPECT_EQ(read(pipe_, &report, sizeof(report)), sizeof(report));
    return report;
  }

 private:
  pid_t pid_ = -1;
  int pipe_ = -1;
};

}  // namespace tdp::server

#endif  // SERVER_GUARD_ATTACK_PROCESS_H_
