#include "server/guard/interpose.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <iterator>
#include <vector>

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

// What follows runs in processes of its own, which these leave with a line for
// whoever reads the log.
void Expect(bool condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
  _exit(1);
}

// A listener and its clients, without a path to clean up.
class Listener {
 public:
  Listener() {
    // A loop that does not end ends the process.
    alarm(60);
    Expect(CheckInterposition().ok(), "our functions are in effect");
    fd_ = NewSocket();
    sockaddr_un any = {};
    any.sun_family = AF_UNIX;
    // The kernel chooses an abstract name.
    Expect(bind(fd_, reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)) ==
                   0 &&
               listen(fd_, 16) == 0,
           "the socket listens");
    length_ = sizeof(name_);
    Expect(getsockname(fd_, reinterpret_cast<sockaddr*>(&name_), &length_) == 0,
           "the socket has a name");
  }

  int Connect() const {
    const int fd = NewSocket();
    Expect(connect(fd, reinterpret_cast<const sockaddr*>(&name_), length_) == 0,
           "a client connects");
    return fd;
  }
  // As gRPC does.
  int Accept() const {
    sockaddr_storage address;
    socklen_t length = sizeof(address);
    return accept4(fd_, reinterpret_cast<sockaddr*>(&address), &length,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
  }

 private:
  static int NewSocket() {
    const int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    Expect(fd >= 0, "there is a socket");
    return fd;
  }

  int fd_ = -1;
  sockaddr_un name_ = {};
  socklen_t length_ = 0;
};

[[noreturn]] void RunOutOfDescriptors() {
  const Listener listener;
  const std::vector<int> refused = {listener.Connect(), listener.Connect(),
                                    listener.Connect()};
  rlimit limit;
  Expect(getrlimit(RLIMIT_NOFILE, &limit) == 0, "there is a limit");
  limit.rlim_cur = 64;
  Expect(setrlimit(RLIMIT_NOFILE, &limit) == 0, "the limit is lower");
  std::vector<int> taken;
  for (int fd; (fd = dup(STDERR_FILENO)) >= 0;) taken.push_back(fd);
  Expect(errno == EMFILE, "all descriptors are taken");

  for (int i = 0; i < 2; ++i) {
    Expect(listener.Accept() < 0 && errno == EAGAIN,
           "gRPC hears that nobody is there");
  }
  for (const int fd : refused) {
    char byte;
    Expect(recv(fd, &byte, 1, 0) == 0, "a client that waited is refused");
  }
  close(taken.back());
  close(refused.back());
  const int client = listener.Connect();
  const int accepted = listener.Accept();
  Expect(accepted >= 0, "the next client is accepted");
  Expect(send(client, "x", 1, 0) == 1, "it can send");
  char byte;
  Expect(recv(accepted, &byte, 1, 0) == 1 && byte == 'x', "it is heard");
  _exit(0);
}

TEST(InterposeDeathTest, TheListenerSurvivesWantOfDescriptors) {
  EXPECT_EXIT(RunOutOfDescriptors(), testing::ExitedWithCode(0), "");
}

// From here on accept4() fails with `error`.
void FailAccept(int error) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_accept4, 0, 1),
      BPF_STMT(BPF_RET | BPF_K,
               SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(code), .filter = code};
  Expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
             prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
         "there is a filter");
}

[[noreturn]] void AcceptFails(int error, int expected) {
  const Listener listener;
  listener.Connect();
  FailAccept(error);
  Expect(listener.Accept() < 0 && errno == expected, "the error is that");
  _exit(0);
}

TEST(InterposeDeathTest, AnErrorThatLastsIsNotTriedForEver) {
  for (const int error : {EPERM, EACCES, ENOSYS, EMFILE, ENOMEM}) {
    EXPECT_EXIT(AcceptFails(error, EAGAIN), testing::ExitedWithCode(0), "")
        << error;
  }
}

TEST(InterposeDeathTest, AListenerThatIsClosedIsGivenUp) {
  for (const int error : {EBADF, EINVAL}) {
    EXPECT_EXIT(AcceptFails(error, error), testing::ExitedWithCode(0), "")
        << error;
  }
}

}  // namespace
}  // namespace tdp::server
