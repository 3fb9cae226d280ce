#include "server/testing/cut_proxy.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace tdp::server {
namespace {

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return address;
}

void CheckCall(bool ok) {
  if (!ok) abort();
}

}  // namespace

CutProxy::CutProxy(std::string listen_path, std::string target)
    : listen_path_(std::move(listen_path)), target_path_(std::move(target)) {
  const sockaddr_un address = AddressOf(listen_path_);
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CheckCall(bind(listener_, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)) == 0);
  CheckCall(listen(listener_, 128) == 0);
  CheckCall(pipe(wake_) == 0);
  thread_ = std::thread([this] { Run(); });
}

CutProxy::~CutProxy() {
  stopping_ = true;
  CheckCall(write(wake_[1], "x", 1) == 1);
  thread_.join();
  for (const int fd : {listener_, wake_[0], wake_[1]}) close(fd);
  unlink(listen_path_.c_str());
}

void CutProxy::Cut() {
  const int ticket = ++cuts_asked_;
  CheckCall(write(wake_[1], "x", 1) == 1);
  while (cuts_done_ < ticket) usleep(100);
}

void CutProxy::CloseAll() {
  for (const Link& link : links_) {
    close(link.client);
    close(link.server);
  }
  links_.clear();
}

void CutProxy::Accept() {
  const int client = accept(listener_, nullptr, nullptr);
  if (client < 0) return;
  const sockaddr_un address = AddressOf(target_path_);
  const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(server, reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    close(client);
    close(server);
    return;
  }
  links_.push_back({client, server});
}

bool CutProxy::Pass(int from, int to) {
  char buffer[1 << 16];
  const ssize_t got = read(from, buffer, sizeof(buffer));
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t n =
        send(to, buffer + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += n;
  }
  return got > 0;
}

void CutProxy::Run() {
  while (!stopping_) {
    std::vector<pollfd> fds = {{wake_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const Link& link : links_) {
      fds.push_back({link.client, POLLIN, 0});
      fds.push_back({link.server, POLLIN, 0});
    }
    poll(fds.data(), fds.size(), -1);
    if (fds[0].revents != 0) {
      char byte = 0;
      CheckCall(read(wake_[0], &byte, 1) == 1);
      const int ticket = cuts_asked_;
      CloseAll();
      cuts_done_ = ticket;
      continue;
    }
    std::vector<Link> open;
    for (size_t i = 0; i < links_.size(); ++i) {
      const Link link = links_[i];
      const bool alive =
          (fds[2 + 2 * i].revents == 0 || Pass(link.client, link.server)) &&
          (fds[3 + 2 * i].revents == 0 || Pass(link.server, link.client));
      if (alive) {
        open.push_back(link);
      } else {
        close(link.client);
        close(link.server);
      }
    }
    links_ = std::move(open);
    if (fds[1].revents != 0) Accept();
  }
  CloseAll();
}

}  // namespace tdp::server
