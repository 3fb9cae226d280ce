#include "server/http/http_request.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tdp::server {
namespace {

constexpr absl::string_view kLineEnd = "\r\n";

bool IsTokenChar(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         absl::string_view("!#$%&'*+-.^_`|~").find(c) !=
             absl::string_view::npos;
}
bool IsToken(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}
bool IsVisible(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c > ' ' && c < '\x7f'; });
}
bool IsHeaderValue(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\t' || (static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
  });
}

// Takes the next line off `text`. False at its end.
bool NextLine(absl::string_view* text, absl::string_view* line) {
  const size_t end = text->find(kLineEnd);
  if (end == absl::string_view::npos) return false;
  *line = text->substr(0, end);
  text->remove_prefix(end + kLineEnd.size());
  return true;
}

int ParseRequestLine(absl::string_view line, HttpRequest* request,
                     bool* needs_host) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == absl::string_view::npos || first == last) return 400;
  const absl::string_view method = line.substr(0, first);
  const absl::string_view target = line.substr(first + 1, last - first - 1);
  const absl::string_view version = line.substr(last + 1);
  if (!IsToken(method) || !IsVisible(target)) return 400;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return absl::StartsWith(version, "HTTP/") ? 505 : 400;
  }
  if (method != "GET") return 405;
  if (target.size() > kMaxHttpTargetBytes) return 414;
  if (target.empty() || target[0] != '/') return 400;
  const size_t question = target.find('?');
  request->path = std::string(target.substr(0, question));
  if (question != absl::string_view::npos) {
    request->query = std::string(target.substr(question + 1));
  }
  *needs_host = version == "HTTP/1.1";
  return 200;
}

// The one header of a name that there may be.
struct OnlyHeader {
  absl::string_view name;
  std::string* value;
  bool seen = false;
};

absl::string_view StatusText(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 421:
      return "Misdirected Request";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

}  // namespace

bool IsIpAddress(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

int ParseHttpRequest(absl::string_view head, HttpRequest* request) {
  absl::string_view line;
  bool needs_host = false;
  if (!NextLine(&head, &line)) return 400;
  const int status = ParseRequestLine(line, request, &needs_host);
  if (status != 200) return status;
  int headers = 0;
  OnlyHeader host = {"host", &request->host};
  OnlyHeader origin = {"origin", &request->origin};
  OnlyHeader authorization = {"authorization", &request->authorization};
  while (true) {
    if (!NextLine(&head, &line)) return 400;
    if (line.empty()) break;
    if (++headers > kMaxHttpHeaders) return 431;
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) return 400;
    const absl::string_view name = line.substr(0, colon);
    const absl::string_view value =
        absl::StripAsciiWhitespace(line.substr(colon + 1));
    if (!IsToken(name) || !IsHeaderValue(value)) return 400;
    for (OnlyHeader* only : {&host, &origin, &authorization}) {
      if (!absl::EqualsIgnoreCase(name, only->name)) continue;
      if (only->seen) return 400;
      only->seen = true;
      *only->value = std::string(value);
    }
    if (absl::EqualsIgnoreCase(name, "transfer-encoding") ||
        (absl::EqualsIgnoreCase(name, "content-length") && value != "0")) {
      return 413;
    }
  }
  return needs_host && !host.seen ? 400 : 200;
}

bool IsAllowedHost(const HttpHosts& hosts, absl::string_view host_header) {
  absl::string_view name = host_header;
  absl::string_view port;
  if (absl::ConsumePrefix(&name, "[")) {
    const size_t end = name.find(']');
    if (end == absl::string_view::npos) return false;
    port = name.substr(end + 1);
    name = name.substr(0, end);
  } else if (const size_t colon = name.find(':');
             colon != absl::string_view::npos) {
    port = name.substr(colon);
    name = name.substr(0, colon);
  }
  uint32_t number = 0;
  if (!port.empty() &&
      (port[0] != ':' || !absl::SimpleAtoi(port.substr(1), &number))) {
    return false;
  }
  std::string host = absl::AsciiStrToLower(name);
  if (host == "localhost" || host == "127.0.0.1" || host == "::1" ||
      host == hosts.bound) {
    return true;
  }
  if (!hosts.is_public) return false;
  return IsIpAddress(host) ||
         std::any_of(hosts.machine_names.begin(), hosts.machine_names.end(),
                     [&host](const std::string& machine) {
                       return !machine.empty() &&
                              absl::EqualsIgnoreCase(host, machine);
                     });
}

bool IsAllowedOrigin(const HttpRequest& request) {
  return request.origin.empty() ||
         absl::EqualsIgnoreCase(request.origin,
                                absl::StrCat("http://", request.host));
}

HttpResponse HttpError(int status, absl::string_view why) {
  return {.status = status, .body = absl::StrCat(why, "\n")};
}

std::string FormatHttpResponse(const HttpResponse& response) {
  std::string more;
  for (const auto& [name, value] : response.headers) {
    absl::StrAppend(&more, name, ": ", value, "\r\n");
  }
  return absl::StrCat(
      "HTTP/1.1 ", response.status, " ", StatusText(response.status),
      "\r\nContent-Type: ", response.content_type,
      "\r\nContent-Length: ", response.body.size(),
      "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
      response.status == 405 ? "Allow: GET\r\n" : "", more,
      "Connection: close\r\n\r\n", response.body);
}

}  // namespace tdp::server
