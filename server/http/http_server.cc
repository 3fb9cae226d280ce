#include "server/http/http_server.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/base/log.h"
#include "server/base/monotonic_time.h"

namespace tdp::server {
namespace {

constexpr int kBacklog = 64;
constexpr int kNice = 10;
constexpr absl::string_view kHeadEnd = "\r\n\r\n";
// For a client to see the end of the response before the connection goes.
constexpr std::chrono::milliseconds kLingerTime{1000};
constexpr std::chrono::milliseconds kAcceptPause{100};

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK; }

int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return 0;
  }
  const bool v6 = address.ss_family == AF_INET6;
  return ntohs(v6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                  : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

std::string WhyRefused(int status) {
  switch (status) {
    case 405:
      return "only GET is served here";
    case 413:
      return "a request has no body here";
    case 414:
      return absl::StrCat("a target has at most ", kMaxHttpTargetBytes,
                          " bytes");
    case 431:
      return absl::StrCat("a request has at most ", kMaxHttpHeadBytes,
                          " bytes and ", kMaxHttpHeaders, " headers");
    case 505:
      return "this server speaks HTTP/1.1";
    default:
      return "the request is malformed";
  }
}

// Who asks may not: somebody tries tokens, or a page on some other site does.
bool IsDenial(int status) {
  return status == 401 || status == 403 || status == 421;
}

// A socket that listens, or -1 and errno.
int OpenListener(const addrinfo& address) {
  const int fd =
      socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 &&
      listen(fd, kBacklog) == 0) {
    return fd;
  }
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// The host name, and its FQDN as `hostname --fqdn` would print it. Asks the
// resolver, which may ask a name server.
std::vector<std::string> MachineNames() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) return {};
  std::vector<std::string> names = {name};
  addrinfo hints = {};
  hints.ai_flags = AI_CANONNAME;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(name, nullptr, &hints, &found) != 0) return names;
  if (found->ai_canonname != nullptr) names.push_back(found->ai_canonname);
  freeaddrinfo(found);
  return names;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(
    const Options& options) {
  const std::string host =
      options.host == "localhost" ? "127.0.0.1" : options.host;
  const std::string shown = absl::StrCat("--http: ", host, ":", options.port);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* address = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(options.port).c_str(), &hints,
                  &address) != 0) {
    return MakeError(ErrorReason::kFieldInvalid,
                     absl::StrCat(shown, " must have an IP address"));
  }
  const int fd = OpenListener(*address);
  const int error = errno;
  freeaddrinfo(address);
  if (fd < 0) {
    return InternalError(
        absl::StrCat(shown, " cannot be listened on: ", strerror(error)));
  }
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    close(fd);
    return HostCallError("eventfd()", errno);
  }
  return std::unique_ptr<HttpServer>(
      new HttpServer(options, fd, wake_fd, PortOf(fd)));
}

HttpServer::HttpServer(const Options& options, int listen_fd, int wake_fd,
                       int port)
    : options_(options), listen_fd_(listen_fd), wake_fd_(wake_fd), port_(port) {
  hosts_.bound = options.host;
  hosts_.is_public = options.is_public;
}

HttpServer::~HttpServer() {
  Shutdown();
  close(wake_fd_);
  close(listen_fd_);
}

void HttpServer::AddRoute(std::string path, Handler handler) {
  routes_[std::move(path)] = std::move(handler);
}

void HttpServer::AddRoutesBelow(std::string prefix, Handler handler) {
  prefix_routes_[std::move(prefix)] = std::move(handler);
}

void HttpServer::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tdpd-http");
    // Who serves calls goes first. On Linux this is of the thread alone.
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
    // Here, since a name server may let us wait: the daemon starts meanwhile.
    if (hosts_.is_public) hosts_.machine_names = MachineNames();
    Run();
  });
}

void HttpServer::Shutdown() {
  shut_down_.store(true);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
}

void HttpServer::Run() {
  std::vector<pollfd> events;
  while (!shut_down_.load()) {
    WaitForEvents(&events);
    // The first two are the wake-up and the listener; then the connections, in
    // order.
    size_t i = 2;
    const Clock::time_point now = Clock::now();
    for (auto it = connections_.begin(); it != connections_.end(); ++i) {
      const bool late = it->deadline <= now;
      if (late && it->state != Connection::State::kLingering) NoteCut();
      const bool over = late || (events[i].revents != 0 && !Advance(*it));
      it = over ? Close(it) : std::next(it);
    }
    if (events[1].revents != 0) Accept();
  }
  while (!connections_.empty()) Close(connections_.begin());
}

void HttpServer::WaitForEvents(std::vector<pollfd>* events) {
  const Clock::time_point now = Clock::now();
  const bool accepting = accept_again_ <= now;
  Clock::time_point next =
      accepting ? now + std::chrono::hours(1) : accept_again_;
  events->clear();
  events->push_back({wake_fd_, POLLIN, 0});
  events->push_back({accepting ? listen_fd_ : -1, POLLIN, 0});
  for (const Connection& connection : connections_) {
    const bool writes = connection.state == Connection::State::kWriting;
    events->push_back(
        {connection.fd, static_cast<int16_t>(writes ? POLLOUT : POLLIN), 0});
    next = std::min(next, connection.deadline);
  }
  const auto wait =
      std::chrono::duration_cast<std::chrono::milliseconds>(next - now).count();
  poll(events->data(), events->size(),
       static_cast<int>(std::max<int64_t>(wait, 0)) + 1);
}

void HttpServer::Accept() {
  // Not for ever: those that are connected have their turn, too.
  for (size_t i = 0; i < options_.max_connections; ++i) {
    const int fd =
        accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      // Out of descriptors: the listener stays readable, so look away.
      if (!WouldBlock()) accept_again_ = Clock::now() + kAcceptPause;
      return;
    }
    if (connections_.size() >= options_.max_connections) EvictForConnection();
    Connection& connection = connections_.emplace_back();
    connection.fd = fd;
    connection.deadline = Clock::now() + options_.request_time;
  }
}

bool HttpServer::Advance(Connection& connection) {
  switch (connection.state) {
    case Connection::State::kReading:
      return Read(connection);
    case Connection::State::kWriting:
      return Write(connection);
    case Connection::State::kLingering:
      return Linger(connection);
  }
  return false;
}

bool HttpServer::Read(Connection& connection) {
  char buffer[4096];
  const ssize_t size = read(connection.fd, buffer, sizeof(buffer));
  if (size < 0) return WouldBlock() || errno == EINTR;
  if (size == 0) return false;
  // Where the end may begin, counting what came before.
  const size_t from = connection.in.size() < kHeadEnd.size()
                          ? 0
                          : connection.in.size() - kHeadEnd.size();
  connection.in.append(buffer, static_cast<size_t>(size));
  const size_t end = connection.in.find(kHeadEnd.data(), from, kHeadEnd.size());
  if (end != std::string::npos && end + kHeadEnd.size() <= kMaxHttpHeadBytes) {
    Respond(
        connection,
        Answer(
            absl::string_view(connection.in).substr(0, end + kHeadEnd.size())));
    return Write(connection);
  }
  if (connection.in.size() >= kMaxHttpHeadBytes) {
    Respond(connection, HttpError(431, WhyRefused(431)));
    return Write(connection);
  }
  return true;
}

HttpResponse HttpServer::Answer(absl::string_view head) const {
  HttpRequest request;
  const int status = ParseHttpRequest(head, &request);
  if (status != 200) return HttpError(status, WhyRefused(status));
  if (!IsAllowedHost(hosts_, request.host)) {
    return HttpError(421, "this server is not called what the request says");
  }
  if (!IsAllowedOrigin(request)) {
    return HttpError(403, "pages of other sites may not ask this server");
  }
  const Handler* const handler = FindRoute(request.path);
  if (handler == nullptr) return HttpError(404, "there is no such page");
  return (*handler)(request);
}

const HttpServer::Handler* HttpServer::FindRoute(
    const std::string& path) const {
  const auto route = routes_.find(path);
  if (route != routes_.end()) return &route->second;
  for (const auto& [prefix, handler] : prefix_routes_) {
    if (absl::StartsWith(path, prefix)) return &handler;
  }
  return nullptr;
}

void HttpServer::Respond(Connection& connection, const HttpResponse& response) {
  Count(response.status);
  connection.in = std::string();
  connection.out = FormatHttpResponse(response);
  connection.state = Connection::State::kWriting;
  connection.deadline = Clock::now() + options_.response_time;
  EvictForBytes(connection);
}

void HttpServer::Count(int status) {
  responses_[static_cast<size_t>(status)].fetch_add(1,
                                                    std::memory_order_relaxed);
  if (IsDenial(status) && denial_lines_.Take(1, CoarseMonotonicNanoseconds())) {
    Log(Severity::kWarning, "an HTTP request was denied",
        {{"status", absl::StrCat(status)}});
  }
}

std::map<int, int64_t> HttpServer::response_counts() const {
  std::map<int, int64_t> counts;
  for (size_t status = 0; status < responses_.size(); ++status) {
    const int64_t count = responses_[status].load(std::memory_order_relaxed);
    if (count > 0) counts[static_cast<int>(status)] = count;
  }
  return counts;
}

bool HttpServer::Write(Connection& connection) {
  while (connection.written < connection.out.size()) {
    const ssize_t size =
        send(connection.fd, connection.out.data() + connection.written,
             connection.out.size() - connection.written, MSG_NOSIGNAL);
    if (size < 0) return WouldBlock() || errno == EINTR;
    connection.written += static_cast<size_t>(size);
  }
  connection.out = std::string();
  connection.written = 0;
  // Closing with bytes unread would reset the connection, and the client could
  // lose the end of its response.
  shutdown(connection.fd, SHUT_WR);
  connection.state = Connection::State::kLingering;
  connection.deadline = Clock::now() + kLingerTime;
  return true;
}

bool HttpServer::Linger(Connection& connection) {
  char buffer[4096];
  const ssize_t size = read(connection.fd, buffer, sizeof(buffer));
  return size > 0 || (size < 0 && (WouldBlock() || errno == EINTR));
}

void HttpServer::EvictForConnection() {
  auto victim = std::find_if(connections_.begin(), connections_.end(),
                             [](const Connection& each) {
                               return each.state != Connection::State::kWriting;
                             });
  if (victim == connections_.end()) victim = connections_.begin();
  // One that lingers has its whole response, or was counted when it lost it.
  if (victim->state != Connection::State::kLingering) NoteCut();
  Close(victim);
}

void HttpServer::EvictForBytes(const Connection& keep) {
  size_t total = 0;
  for (const Connection& each : connections_) total += each.out.size();
  for (Connection& each : connections_) {
    if (total <= options_.max_buffered_bytes) return;
    if (&each == &keep || each.out.empty()) continue;
    total -= each.out.size();
    each.out = std::string();
    each.written = 0;
    // Ends at its next event, which this causes.
    shutdown(each.fd, SHUT_RDWR);
    each.state = Connection::State::kLingering;
    NoteCut();
  }
}

HttpServer::Connections::iterator HttpServer::Close(
    Connections::iterator connection) {
  close(connection->fd);
  return connections_.erase(connection);
}

}  // namespace tdp::server
