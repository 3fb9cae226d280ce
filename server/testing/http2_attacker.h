// A hostile HTTP/2 client: frames made by hand.
//
// Thread safety: none.

#ifndef SERVER_TESTING_HTTP2_ATTACKER_H_
#define SERVER_TESTING_HTTP2_ATTACKER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tdp::server {

// What frames consist of.
namespace http2 {

std::string Preface();
std::string Frame(int type, int flags, uint32_t stream_id,
                  absl::string_view payload);
std::string Settings(absl::string_view payload = {});
// One entry of SETTINGS.
std::string Setting(uint16_t id, uint32_t value);
// The first frame of a call of `path`, "/tdp.v1.InfoService/GetInfo", with
// `filler` as the value of one more header.
std::string CallHeaders(uint32_t stream_id, absl::string_view path,
                        int extra_flags = 0, absl::string_view filler = {});
// The only message of a call.
std::string CallMessage(uint32_t stream_id, absl::string_view message);
std::string Reset(uint32_t stream_id);
std::string WindowUpdate(uint32_t stream_id, uint32_t increment);

inline constexpr char kGetInfo[] = "/tdp.v1.InfoService/GetInfo";

}  // namespace http2

// One connection.
class Http2Attacker {
 public:
  // Whether what the server sends is taken from the socket.
  enum class Reading { kReads, kNeverReads };

  Http2Attacker() = default;
  Http2Attacker(const Http2Attacker&) = delete;
  Http2Attacker& operator=(const Http2Attacker&) = delete;
  ~Http2Attacker();

  // To a Unix socket. False if nobody takes connections there.
  bool Connect(const std::string& path);
  // To a port of 127.0.0.1, from the address `source` of this host.
  bool ConnectTcp(int port, uint32_t source);
  // Sends all of it, while reading or not; false if the server has closed the
  // connection, or if it takes nothing for `patience`.
  bool Send(absl::string_view bytes, Reading reading = Reading::kReads,
            absl::Duration patience = absl::Seconds(5));
  // Sends `make(n)` for n = 0, 1, ... until the connection is closed or `count`
  // were sent; returns how many were, some 32 KiB at a time.
  int64_t Flood(int64_t count, const std::function<std::string(int64_t)>& make,
                Reading reading = Reading::kReads);
  // The server closes the connection before `limit` has passed.
  bool AwaitClose(absl::Duration limit);
  // The same without reading anything before that.
  bool AwaitHangUp(absl::Duration limit);
  bool is_closed() const { return closed_; }

 private:
  // Takes what there is; notices a close.
  void Drain();

  int fd_ = -1;
  bool closed_ = false;
};

}  // namespace tdp::server

#endif  // SERVER_TESTING_HTTP2_ATTACKER_H_
