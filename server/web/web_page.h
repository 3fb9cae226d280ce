// The web page on the HTTP port: its files for everybody, its data for who
// shows the token.
//
// Thread safety: free functions.

#ifndef SERVER_WEB_WEB_PAGE_H_
#define SERVER_WEB_WEB_PAGE_H_

#include "server/http/http_server.h"
#include "server/web/web_api.h"

namespace tdp::server {

// Before `server` starts; `api` outlives it.
void AddWebPage(const WebApi& api, HttpServer& server);

}  // namespace tdp::server

#endif  // SERVER_WEB_WEB_PAGE_H_
