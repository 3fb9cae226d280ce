#include "server/testing/http2_attacker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tdp::server {
namespace http2 {
namespace {

std::string BigEndian(uint32_t value, int bytes) {
  std::string text;
  while (bytes-- > 0) text.push_back(static_cast<char>(value >> (8 * bytes)));
  return text;
}

// A string of HPACK; not compressed.
std::string Text(absl::string_view text) {
  constexpr size_t kInOneByte = 127;
  if (text.size() < kInOneByte) {
    return absl::StrCat(BigEndian(static_cast<uint32_t>(text.size()), 1), text);
  }
  std::string length(1, static_cast<char>(kInOneByte));
  size_t rest = text.size() - kInOneByte;
  for (; rest >= 128; rest /= 128) {
    length.push_back(static_cast<char>(rest % 128 | 128));
  }
  length.push_back(static_cast<char>(rest));
  return absl::StrCat(length, text);
}

std::string LiteralHeader(absl::string_view value) {
  return absl::StrCat(absl::string_view("\0", 1), Text("filler"), Text(value));
}

}  // namespace

std::string Preface() { return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; }

std::string Frame(int type, int flags, uint32_t stream_id,
                  absl::string_view payload) {
  return absl::StrCat(BigEndian(static_cast<uint32_t>(payload.size()), 3),
                      BigEndian(type, 1), BigEndian(flags, 1),
                      BigEndian(stream_id, 4), payload);
}

std::string Settings(absl::string_view payload) {
  return Frame(4, 0, 0, payload);
}

std::string Setting(uint16_t id, uint32_t value) {
  return BigEndian(id, 2) + BigEndian(value, 4);
}

std::string CallHeaders(uint32_t stream_id, absl::string_view path,
                        int extra_flags, absl::string_view filler) {
  constexpr int kEndHeaders = 0x4;
  // Indexed: POST, http; then literals that are not to be indexed.
  const std::string block = absl::StrCat(
      "\x83\x86\x04", Text(path), "\x01", Text("localhost"),
      absl::string_view("\0", 1), Text("te"), Text("trailers"), "\x0f\x10",
      Text("application/grpc"), filler.empty() ? "" : LiteralHeader(filler));
  return Frame(1, kEndHeaders | extra_flags, stream_id, block);
}

std::string CallMessage(uint32_t stream_id, absl::string_view message) {
  constexpr int kEndStream = 0x1;
  return Frame(0, kEndStream, stream_id,
               absl::StrCat(absl::string_view("\0", 1),
                            BigEndian(static_cast<uint32_t>(message.size()), 4),
                            message));
}

std::string Reset(uint32_t stream_id) {
  return Frame(3, 0, stream_id, BigEndian(8, 4));
}

std::string WindowUpdate(uint32_t stream_id, uint32_t increment) {
  return Frame(8, 0, stream_id, BigEndian(increment, 4));
}

}  // namespace http2

Http2Attacker::~Http2Attacker() {
  if (fd_ >= 0) close(fd_);
}

bool Http2Attacker::Connect(const std::string& path) {
  if (fd_ >= 0) close(fd_);
  closed_ = false;
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return connect(fd_, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)) == 0;
}

bool Http2Attacker::ConnectTcp(int port, uint32_t source) {
  if (fd_ >= 0) close(fd_);
  closed_ = false;
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // Bytes one by one are to be sent so.
  const int one = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(source);
  if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
      0) {
    return false;
  }
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return connect(fd_, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)) == 0;
}

bool Http2Attacker::Send(absl::string_view bytes, Reading reading,
                         absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!bytes.empty()) {
    const ssize_t sent =
        send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) bytes.remove_prefix(sent);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) closed_ = true;
    if (reading == Reading::kReads) Drain();
    if (closed_ || absl::Now() > deadline) return false;
    if (sent < 0) {
      pollfd wait = {fd_, POLLOUT, 0};
      if (reading == Reading::kReads) wait.events |= POLLIN;
      poll(&wait, 1, 100);
    }
  }
  return true;
}

int64_t Http2Attacker::Flood(int64_t count,
                             const std::function<std::string(int64_t)>& make,
                             Reading reading) {
  constexpr size_t kBytesPerWrite = 32768;
  int64_t sent = 0;
  while (sent < count) {
    std::string bytes;
    int64_t n = sent;
    while (n < count && bytes.size() < kBytesPerWrite) bytes += make(n++);
    if (!Send(bytes, reading)) break;
    sent = n;
  }
  return sent;
}

bool Http2Attacker::AwaitClose(absl::Duration limit) {
  const absl::Time deadline = absl::Now() + limit;
  for (;;) {
    Drain();
    if (closed_) return true;
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    pollfd wait = {fd_, POLLIN, 0};
    poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
  }
}

bool Http2Attacker::AwaitHangUp(absl::Duration limit) {
  pollfd wait = {fd_, POLLHUP | POLLRDHUP, 0};
  return closed_ ||
         poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(limit))) > 0;
}

void Http2Attacker::Drain() {
  char buffer[65536];
  for (;;) {
    const ssize_t count = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (count > 0) continue;
    if (count == 0 || (errno != EAGAIN && errno != EINTR)) closed_ = true;
    return;
  }
}

}  // namespace tdp::server
