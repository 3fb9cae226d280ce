// Says, as TCP_INQ does on TCP, whether a Unix socket has more to read.
//
// Without it gRPC reads a socket twice more for each message, both times to
// learn that there is nothing, and makes room for what it does not get.
//
// Thread safety: as recvmsg().

#ifndef SERVER_GUARD_UNREAD_HINT_H_
#define SERVER_GUARD_UNREAD_HINT_H_

#include <sys/socket.h>
#include <sys/types.h>

namespace tdp::server {

// As recvmsg() of a stream socket that does not block. If there is room for
// it, `message` gets a control message TCP_CM_INQ: 0 if the socket was empty
// and its peer had not closed it, 1 if the next read may find something. Any
// other control message, and with it any descriptor that the peer sent, is
// dropped.
ssize_t ReceiveWithUnreadHint(int fd, msghdr* message, int flags);

}  // namespace tdp::server

#endif  // SERVER_GUARD_UNREAD_HINT_H_
