// UnixSocketClaim: the right to listen on the path of a Unix socket.
//
// A daemon that was killed leaves its socket behind; the next one replaces it.
// A socket that somebody listens on is not replaced. Two daemons that start at
// the same moment are told apart by a lock on PATH.lock, which a claim holds as
// long as it lives.
//
// Thread safety: none; one thread.

#ifndef SERVER_UNIX_SOCKET_CLAIM_H_
#define SERVER_UNIX_SOCKET_CLAIM_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

class UnixSocketClaim {
 public:
  // Makes `path` free to listen on: locks it and removes a stale socket. An
  // error says who or what is in the way; nothing is removed then.
  static absl::StatusOr<std::unique_ptr<UnixSocketClaim>> Take(
      absl::string_view path);

  UnixSocketClaim(const UnixSocketClaim&) = delete;
  UnixSocketClaim& operator=(const UnixSocketClaim&) = delete;
  // Removes the socket and the lock.
  ~UnixSocketClaim();

  // Lets the owner and one group connect, nobody else: `group`, or that of the
  // daemon if there is none.
  absl::Status SetAccess(std::optional<gid_t> group) const;

 private:
  UnixSocketClaim(absl::string_view path, int lock_fd);

  const std::string path_;
  const std::string lock_path_;
  const int lock_fd_;
};

}  // namespace tdp::server

#endif  // SERVER_UNIX_SOCKET_CLAIM_H_
