// RawHttpClient: a TCP connection to this machine that sends bytes as it is
// told, for tests.

#ifndef SERVER_HTTP_HTTP_CLIENT_H_
#define SERVER_HTTP_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

class RawHttpClient {
 public:
  explicit RawHttpClient(int port, int receive_buffer_bytes = 0)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer_bytes > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes,
                 sizeof(receive_buffer_bytes));
    }
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address),
                         sizeof(address)) == 0;
  }
  RawHttpClient(const RawHttpClient&) = delete;
  RawHttpClient& operator=(const RawHttpClient&) = delete;
  ~RawHttpClient() { close(fd_); }

  bool connected() const { return connected_; }
  bool Send(absl::string_view bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // Everything until the server closes or cuts the connection.
  std::string ReadAll() {
    std::string text;
    char buffer[65536];
    while (true) {
      const ssize_t size = read(fd_, buffer, sizeof(buffer));
      if (size <= 0) return text;
      text.append(buffer, static_cast<size_t>(size));
    }
  }

 private:
  const int fd_;
  bool connected_ = false;
};

// The whole response to a GET.
inline std::string HttpGet(int port, absl::string_view path,
                           absl::string_view host = "localhost") {
  RawHttpClient client(port);
  client.Send(
      absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: ", host, "\r\n\r\n"));
  return client.ReadAll();
}

}  // namespace tdp::server

#endif  // SERVER_HTTP_HTTP_CLIENT_H_
