// CutProxy: passes bytes between clients and a server, over Unix sockets, until
// a test cuts the connections as if the client's machine had gone.
//
// Thread safety: Cut() from any one thread.

#ifndef SERVER_TESTING_CUT_PROXY_H_
#define SERVER_TESTING_CUT_PROXY_H_

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace tdp::server {

class CutProxy {
 public:
  // Listens on the path `listen` for the server at the path `target`.
  CutProxy(std::string listen, std::string target);
  CutProxy(const CutProxy&) = delete;
  CutProxy& operator=(const CutProxy&) = delete;
  ~CutProxy();

  // Closes every connection, whatever bytes are under way. What connects later
  // is served again. Returns when it is done.
  void Cut();

 private:
  struct Link {
    int client;
    int server;
  };

  void Run();
  void Accept();
  void CloseAll();
  // False at the end of the bytes.
  static bool Pass(int from, int to);

  const std::string listen_path_;
  const std::string target_path_;
  int listener_ = -1;
  int wake_[2] = {-1, -1};
  std::atomic<int> cuts_asked_ = 0;
  std::atomic<int> cuts_done_ = 0;
  std::atomic<bool> stopping_ = false;
  std::vector<Link> links_;  // the thread's own
  std::thread thread_;
};

}  // namespace tdp::server

#endif  // SERVER_TESTING_CUT_PROXY_H_
