#include "server/guard/interpose.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/guard/connection_table.h"
#include "server/guard/unread_hint.h"

namespace tdp::server {
namespace {

// What closing makes room for when there are no descriptors left: else a
// connection that cannot be accepted would wait, and gRPC would stop listening
// for ever.
std::atomic<int> spare_descriptor = -1;

int OpenSpare() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

void CloseForReal(int fd) { syscall(SYS_close, fd); }

// Accepts the next connection and closes it; false if there is none.
bool RefuseOne(int listener) {
  const int spare = spare_descriptor.exchange(-1, std::memory_order_relaxed);
  if (spare >= 0) CloseForReal(spare);
  const auto fd = static_cast<int>(
      syscall(SYS_accept4, listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (fd >= 0) {
    CloseForReal(fd);
    ConnectionTable::Get().NoteNoDescriptors();
  }
  const int again = OpenSpare();
  const int other = spare_descriptor.exchange(again, std::memory_order_relaxed);
  if (other >= 0) CloseForReal(other);
  return fd >= 0;
}

int AcceptWatched(int listener, sockaddr_storage* address, socklen_t* length,
                  int flags) {
  const socklen_t room = *length;
  for (;;) {
    *length = room;
    const auto fd = static_cast<int>(
        syscall(SYS_accept4, listener, address, length, flags));
    if (fd >= 0) {
      // A Unix socket that was not bound has no more than a family, or less.
      if (*length < sizeof(sa_family_t)) address->ss_family = AF_UNIX;
      if (ConnectionTable::Get().Admit(fd, address, length)) return fd;
      CloseForReal(fd);
      continue;
    }
    switch (errno) {
      case EINTR:
      case EAGAIN:
        return -1;
      case EBADF:
      case EFAULT:
      case EINVAL:
      case ENOTSOCK:
      case EOPNOTSUPP:
        // The listener is closed or shut down.
        return -1;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        if (RefuseOne(listener)) continue;
        break;
      case ECONNABORTED:
      case EPROTO:
      case ENETDOWN:
      case ENOPROTOOPT:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case ENETUNREACH:
      case ETIMEDOUT:
        // The connection died before it was accepted: that is its own error,
        // and the next call is about the next one.
        continue;
      default:
        // Others may last (EPERM, of a filter of system calls).
        break;
    }
    // gRPC gives a listener up for any other error.
    errno = EAGAIN;
    return -1;
  }
}

}  // namespace
}  // namespace tdp::server

extern "C" {

__attribute__((visibility("default"))) int accept4(int fd, sockaddr* address,
                                                   socklen_t* length,
                                                   int flags) {
  // As gRPC calls it, and nobody else here.
  if (address != nullptr && *length >= sizeof(sockaddr_storage) &&
      flags == (SOCK_NONBLOCK | SOCK_CLOEXEC)) {
    return tdp::server::AcceptWatched(
        fd, reinterpret_cast<sockaddr_storage*>(address), length, flags);
  }
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

__attribute__((visibility("default"))) ssize_t recvmsg(int fd, msghdr* message,
                                                       int flags) {
  // Room for control messages is what gRPC gives to sockets with TCP_INQ.
  const ssize_t count =
      message->msg_controllen > 0 &&
              tdp::server::ConnectionTable::Get().IsUnix(fd)
          ? tdp::server::ReceiveWithUnreadHint(fd, message, flags)
          : syscall(SYS_recvmsg, fd, message, flags);
  if (count > 0 && (flags & (MSG_ERRQUEUE | MSG_PEEK)) == 0 &&
      !tdp::server::ConnectionTable::Get().NoteReceived(fd, *message, count)) {
    errno = ECONNRESET;
    return -1;
  }
  return count;
}

__attribute__((visibility("default"))) ssize_t sendmsg(int fd,
                                                       const msghdr* message,
                                                       int flags) {
  const ssize_t count = syscall(SYS_sendmsg, fd, message, flags);
  if (count > 0) {
    tdp::server::ConnectionTable::Get().NoteSent(fd, *message, count);
  } else if (count < 0 && errno == EAGAIN) {
    tdp::server::ConnectionTable::Get().NoteStalled(fd);
  }
  return count;
}

__attribute__((visibility("default"))) int setsockopt(int fd, int level,
                                                      int name,
                                                      const void* value,
                                                      socklen_t length) {
  if (level == SOL_TCP && name == TCP_INQ &&
      tdp::server::ConnectionTable::Get().IsUnix(fd)) {
    return 0;
  }
  return static_cast<int>(
      syscall(SYS_setsockopt, fd, level, name, value, length));
}

__attribute__((visibility("default"))) int close(int fd) {
  tdp::server::ConnectionTable::Get().Forget(fd);
  return static_cast<int>(syscall(SYS_close, fd));
}

}  // extern "C"

namespace tdp::server {

absl::Status CheckInterposition() {
  if (spare_descriptor.load(std::memory_order_relaxed) < 0) {
    spare_descriptor.store(OpenSpare(), std::memory_order_relaxed);
  }
  const std::pair<const char*, void*> ours[] = {
      {"accept4", reinterpret_cast<void*>(&accept4)},
      {"recvmsg", reinterpret_cast<void*>(&recvmsg)},
      {"sendmsg", reinterpret_cast<void*>(&sendmsg)},
      {"setsockopt", reinterpret_cast<void*>(&setsockopt)},
      {"close", reinterpret_cast<void*>(&close)},
  };
  for (const auto& [name, address] : ours) {
    // What a shared library finds by this name.
    if (dlsym(RTLD_DEFAULT, name) != address) {
      return InternalError(
          absl::StrCat("the HTTP/2 guard is not in effect: ", name,
                       "() is not this "
                       "program's own"));
    }
  }
  return absl::OkStatus();
}

}  // namespace tdp::server
