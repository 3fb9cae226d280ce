// The little of HTTP/1.1 that an operator's GET needs.
//
// A request has no body. What is not plainly a request of this kind is refused
// rather than repaired: no folded headers, no bare line feeds, no absolute
// targets, no second Host, Origin or Authorization.
//
// Thread safety: free functions on values.

#ifndef SERVER_HTTP_HTTP_REQUEST_H_
#define SERVER_HTTP_HTTP_REQUEST_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace tdp::server {

inline constexpr size_t kMaxHttpHeadBytes = 16384;
inline constexpr size_t kMaxHttpTargetBytes = 8192;
inline constexpr int kMaxHttpHeaders = 64;

struct HttpRequest {
  std::string path;   // begins with '/'; as sent, nothing is decoded
  std::string query;  // behind '?', as sent
  std::string host;   // the Host header; empty if an HTTP/1.0 request has none
  // Headers; empty if the request has none.
  std::string origin;
  std::string authorization;
};

// Reads a request: everything up to and with the blank line. Returns 200, or
// the status to refuse it with.
int ParseHttpRequest(absl::string_view head, HttpRequest* request);

bool IsIpAddress(const std::string& host);

// Who may be named in the Host header. A page on some other site, whose name
// resolves to this machine for a moment, names that site.
struct HttpHosts {
  std::string bound;  // the address that the server listens on
  // Others than this machine may connect: they name it by any of its addresses
  // or by one of `machine_names`. Nothing else will do, not even a longer name
  // that begins with one of them: whose domain that is, nobody knows.
  bool is_public = false;
  std::vector<std::string> machine_names;
};
bool IsAllowedHost(const HttpHosts& hosts, absl::string_view host_header);
// False for what a page of another site asks for: browsers then name that site,
// or "null". Who is no browser names none.
bool IsAllowedOrigin(const HttpRequest& request);

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  // Name and value of more headers: text of the daemon's own.
  std::vector<std::pair<std::string, std::string>> headers;
};

// A refusal with its reason.
HttpResponse HttpError(int status, absl::string_view why);
// With its head. The connection closes behind it.
std::string FormatHttpResponse(const HttpResponse& response);

}  // namespace tdp::server

#endif  // SERVER_HTTP_HTTP_REQUEST_H_
