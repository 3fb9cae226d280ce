// HttpServer: plain HTTP for operators and Prometheus, on one thread.
//
// Every client is bounded, so that a slow or hostile one takes from others
// nothing that matters: no read or write ever blocks; a request must be there
// within seconds and is 16 KiB at most; a connection serves one request; when
// there are too many connections or too many bytes wait for slow readers, the
// oldest goes. The thread runs at a lower priority than those that serve calls.
//
// Thread safety: Listen(), Add...(), Start() and Shutdown() on one thread, in
// this order. Handlers run on the server's thread, one at a time.

#ifndef SERVER_HTTP_HTTP_SERVER_H_
#define SERVER_HTTP_HTTP_SERVER_H_

#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/token_bucket.h"
#include "server/http/http_request.h"

namespace tdp::server {

class HttpServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";  // an address, no name but "localhost"
    int port = 0;                    // 0: the system chooses
    // See HttpHosts.
    bool is_public = false;
    size_t max_connections = 32;
    size_t max_buffered_bytes = size_t{32} << 20;
    std::chrono::milliseconds request_time{3000};
    std::chrono::milliseconds response_time{5000};
  };
  using Handler = std::function<HttpResponse(const HttpRequest& request)>;

  // An error names the address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(
      const Options& options);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  // Answers GET of exactly this path. The handler takes milliseconds.
  void AddRoute(std::string path, Handler handler);
  // Answers GET of every path that begins with `prefix` and is no route of its
  // own. No such prefix begins with another.
  void AddRoutesBelow(std::string prefix, Handler handler);
  void Start();
  // Cuts every connection. No handler runs afterwards. Idempotent.
  void Shutdown();

  int port() const { return port_; }
  // Connections that were cut before their response was sent: they were too
  // slow, or others needed the room. Any thread.
  int64_t cut_count() const {
    return cut_count_.load(std::memory_order_relaxed);
  }
  // By status, of those that there were. Any thread.
  std::map<int, int64_t> response_counts() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Connection {
    enum class State { kReading, kWriting, kLingering };
    int fd = -1;
    State state = State::kReading;
    Clock::time_point deadline;
    std::string in;
    std::string out;
    size_t written = 0;
  };
  using Connections = std::list<Connection>;  // oldest first

  HttpServer(const Options& options, int listen_fd, int wake_fd, int port);

  void Run();
  void WaitForEvents(std::vector<pollfd>* events);
  void Accept();
  // False if the connection is over.
  bool Advance(Connection& connection);
  bool Read(Connection& connection);
  bool Write(Connection& connection);
  bool Linger(Connection& connection);
  HttpResponse Answer(absl::string_view head) const;
  // Null if nothing is served there.
  const Handler* FindRoute(const std::string& path) const;
  void Respond(Connection& connection, const HttpResponse& response);
  // Cuts the oldest connection, of those that still send if there are any.
  void EvictForConnection();
  // Cuts the oldest readers until what waits for them is within bounds.
  void EvictForBytes(const Connection& keep);
  void Count(int status);
  void NoteCut() { cut_count_.fetch_add(1, std::memory_order_relaxed); }
  Connections::iterator Close(Connections::iterator connection);

  const Options options_;
  const int listen_fd_;
  const int wake_fd_;
  const int port_;
  HttpHosts hosts_;
  std::map<std::string, Handler, std::less<>> routes_;
  std::map<std::string, Handler, std::less<>> prefix_routes_;
  std::thread thread_;
  std::atomic<bool> shut_down_ = false;
  std::atomic<int64_t> cut_count_ = 0;
  std::array<std::atomic<int64_t>, 600> responses_ = {};  // by status
  TokenBucket denial_lines_{/*burst=*/10, /*per_second=*/1};
  // Of the server's thread.
  Connections connections_;
  Clock::time_point accept_again_;  // no descriptors were left until then
};

}  // namespace tdp::server

#endif  // SERVER_HTTP_HTTP_SERVER_H_
