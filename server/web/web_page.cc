#include "server/web/web_page.h"

#include <string>

#include "server/web/web_files.h"

namespace tdp::server {
namespace {

// The page runs its own scripts and talks to its own server; nothing else, and
// nobody shows it inside of another page.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

HttpResponse ResponseOf(const WebFile& file) {
  return {.content_type = std::string(file.content_type),
          .body = std::string(file.bytes),
          .headers = {{"Content-Security-Policy", kPolicy},
                      {"Referrer-Policy", "no-referrer"}}};
}

}  // namespace

void AddWebPage(const WebApi& api, HttpServer& server) {
  for (const WebFile& file : WebFiles()) {
    server.AddRoute(std::string(file.path),
                    [&file](const HttpRequest&) { return ResponseOf(file); });
  }
  server.AddRoutesBelow(kWebApiPrefix, [&api](const HttpRequest& request) {
    return api.Answer(request);
  });
}

}  // namespace tdp::server
