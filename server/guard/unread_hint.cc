#include "server/guard/unread_hint.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace tdp::server {
namespace {

// As many as gRPC reads into at once.
constexpr size_t kMaxPieces = 64;

ssize_t ReceiveForReal(int fd, msghdr* message, int flags) {
  return syscall(SYS_recvmsg, fd, message, flags);
}

// What is left of a message's room behind its first bytes.
class Rest {
 public:
  // REQUIRES: message.msg_iovlen <= kMaxPieces
  Rest(const msghdr& message, size_t skip) {
    for (size_t i = 0; i < message.msg_iovlen; ++i) {
      const iovec& piece = message.msg_iov[i];
      const size_t skipped = std::min(skip, piece.iov_len);
      skip -= skipped;
      if (skipped == piece.iov_len) continue;
      pieces_[count_++] = {static_cast<char*>(piece.iov_base) + skipped,
                           piece.iov_len - skipped};
    }
  }

  bool empty() const { return count_ == 0; }
  ssize_t Receive(int fd, int flags) {
    msghdr message = {};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = count_;
    return ReceiveForReal(fd, &message, flags);
  }

 private:
  std::array<iovec, kMaxPieces> pieces_;
  size_t count_ = 0;
};

void PutHint(msghdr* message, int left) {
  cmsghdr* const hint = CMSG_FIRSTHDR(message);
  hint->cmsg_level = SOL_TCP;
  hint->cmsg_type = TCP_CM_INQ;
  hint->cmsg_len = CMSG_LEN(sizeof(left));
  memcpy(CMSG_DATA(hint), &left, sizeof(left));
  message->msg_controllen = CMSG_SPACE(sizeof(left));
}

}  // namespace

ssize_t ReceiveWithUnreadHint(int fd, msghdr* message, int flags) {
  void* const control = message->msg_control;
  const size_t control_room = message->msg_controllen;
  message->msg_control = nullptr;
  message->msg_controllen = 0;
  ssize_t count = ReceiveForReal(fd, message, flags);
  message->msg_control = control;
  if (count <= 0 || control_room < CMSG_SPACE(sizeof(int)) ||
      message->msg_iovlen > kMaxPieces) {
    return count;
  }

  int left = 1;
  Rest rest(*message, static_cast<size_t>(count));
  if (!rest.empty()) {
    // That less came than there was room for does not tell an empty socket
    // from one whose peer is gone, and of that epoll may have told already.
    const ssize_t more = rest.Receive(fd, flags);
    if (more > 0) count += more;
    if (more < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) left = 0;
  }
  message->msg_controllen = control_room;
  PutHint(message, left);
  return count;
}

}  // namespace tdp::server
